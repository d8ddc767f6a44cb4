package verify

type check struct {
	name, projection, about, sql string
	whole                        bool
}

// checks are in the order in which they run: the log first, since the others rely on it. Each statement returns a row for
// each difference: its sort key, the item, the field, the actual and the expected value.
//
// They read only fields that all schema versions of an event have, except for the decimals of AccountCreated, which version 2 added. A
// check of a read model compares the live generation with the events that its projection claims to have applied: those up to
// its checkpoint and, of a parked account, those before the one that could not be applied. projection is empty for a check of the log.
//
// The log may begin later than at position 1, and has then only some of the events before (docs/adr/0024). whole is set for a check that
// needs all of them; the others check the events that there are.
var checks = []check{
	{"positions", "", "positions run from 1 without a gap, and times never go back (I1)", positionsSQL, false},
	{"event ids", "", "no event is in the log twice (I2)", eventIDsSQL, false},
	{"schemas", "", "each event has a known schema version, and the fields of that version", schemasSQL, false},
	{"versions", "", "the versions of each account run from 1 without a gap (I3)", versionsSQL, false},
	{"decisions", "", "each event is allowed by those before it: no overdraft, no movement on a closed account; and each snapshot is the state after its event (I3)", decisionsSQL, true},
	{"transfers", "", "each transfer was sent and received, the same amount, side by side (I8)", transfersSQL, false},
	{"holds in the log", "", "each hold was placed once and ended at most once, as a whole, and each capture is followed by its movement (I3)", logHoldsSQL, false},
	{"reversals", "", "each reversal is of an earlier movement of the account, and the reversals of a movement are together at most its amount (I8)", reversalsSQL, false},
	{"checkpoints", "", "each projection is at an event that the log has (I4)", checkpointsSQL, false},
	{"snapshots", "transactions", "of each account with events in the archive, the log has the state after the last of them, as statements have it", snapshotsSQL, false},
	{"balances", "balances", "balances are the fold of the events up to the checkpoint (I4)", balancesSQL, true},
	{"transactions", "transactions", "statements are the events up to the checkpoint, with the balance after each (I4)", transactionsSQL, true},
	{"account details", "transactions", "statements know the owner, limit and metadata of each account at each position (I4)", detailsSQL, true},
	{"holds", "holds", "holds are those of the events up to the checkpoint (I4)", holdsSQL, false},
	{"totals", "totals", "totals are the sums of the events up to the checkpoint (I4)", totalsSQL, true},
	{"recent seconds", "stats", "statistics of recent seconds are those of the events up to the checkpoint (I4)", statsSecondsSQL, true},
	{"account counts", "stats", "accounts by status are counted from the events up to the checkpoint (I4)", statsAccountsSQL, true},
	{"suspended accounts", "stats", "the suspended accounts are those of the events up to the checkpoint (I4)", statsSuspendedSQL, true},
	{"money", "balances", "balances add up to what was deposited less what was withdrawn, by currency (I8)", moneySQL, true},
}

// begin is the first position from which on the log has every event.
const begin = `(select first_position from log_begin)`

const positionsSQL = `
select l.position, d.item, d.field, d.has, d.want
from (select position, recorded_at, lag(position, 1, ` + begin + ` - 1) over w as before, lag(recorded_at) over w as earlier
      from events where position >= ` + begin + ` window w as (order by position)) as l
cross join lateral (values
    (l.position <> l.before + 1,
     case when l.position <= l.before then 'position ' || l.position
          when l.position = l.before + 2 then 'position ' || l.before + 1
          else 'positions ' || l.before + 1 || ' to ' || l.position - 1 end,
     'events', case when l.position <= l.before then 'two' else 'none' end, 'one'),
    (l.recorded_at < l.earlier, 'position ' || l.position, 'recorded_at', l.recorded_at::text, 'at or after ' || l.earlier::text)
) as d(differs, item, field, has, want)
where d.differs`

const eventIDsSQL = `
select min(position), 'event ' || event_id, 'positions', string_agg(position::text, ', ' order by position), 'one'
from events group by event_id having count(*) > 1`

const schemasSQL = `
select position, 'event at position ' || position, d.field, d.has, d.want
from events
cross join lateral (values
    (schema_version not between 1 and case type when 'AccountCreated' then 2 else 1 end, 'schema_version', schema_version::text,
     'a version of ' || type || ' that this release knows'),
    (type = 'AccountCreated' and (schema_version = 2) <> (payload ? 'decimals'), 'decimals', coalesce(payload->>'decimals', 'none'),
     case schema_version when 2 then 'a number' else 'none' end)
) as d(differs, field, has, want)
where d.differs`

const versionsSQL = `
select position, 'account ' || stream_id || ' at position ' || position, 'version', version::text, (before + 1)::text
from (select position, stream_id, version, lag(version, 1, 0::bigint) over (partition by stream_id order by position) as before
      from events) as l
where version <> before + 1 and position >= ` + begin

// decisionsSQL allows an account to be below its limit after a forced reversal. It then also allows captures of its holds, since they
// do not change what is available.
const decisionsSQL = `
with moved as (
    select position, stream_id, version, type, payload ? 'forced' as forced, payload->>'currency' as currency,
        (payload->>'amount')::numeric as amount, (payload->>'overdraft_limit')::numeric as overdraft_limit,
        ` + direction + ` as direction, ` + heldBy + ` as held_by, metadata->'state' as snapshot
    from events
), folded as (
    select m.*, sum(direction * coalesce(amount, 0)) over w as balance, sum(held_by) over w as held,
        count(overdraft_limit) over w as limits, first_value(currency) over w as of_currency, lag(type) over w as before,
        max(version) filter (where type in ('AccountCreated', 'AccountReactivated')) over earlier as activated,
        max(version) filter (where type = 'AccountSuspended') over earlier as suspended,
        max(version) filter (where type = 'AccountClosed') over earlier as closed
    from moved m
    window w as (partition by stream_id order by version rows unbounded preceding),
        earlier as (partition by stream_id order by version rows between unbounded preceding and 1 preceding)
), limited as (
    select f.*, coalesce(first_value(overdraft_limit) over (partition by stream_id, limits order by version), 0) as allowed
    from folded f
), states as (
    select l.*, balance + allowed - held as available, lag(allowed) over (partition by stream_id order by version) as allowed_before,
        case when type = 'AccountClosed' or closed is not null then 'closed'
             when type = 'AccountSuspended' or type <> 'AccountReactivated' and suspended > activated then 'suspended' else 'active' end as status
    from limited l
)
select s.position, 'account ' || s.stream_id || ' at position ' || s.position, d.field, d.has, d.want
from states s
cross join lateral (values
    ((s.version = 1) <> (s.type = 'AccountCreated'), 'type', s.type,
     case when s.version = 1 then 'AccountCreated' else 'another type, the account being open' end),
    (s.closed is not null, 'type', s.type, 'no event after AccountClosed'),
    (s.closed is null and (s.direction <> 0 or s.type in ('HoldPlaced', 'HoldCaptured')) and s.suspended > s.activated,
     'type', s.type, 'no movement while suspended'),
    ((s.direction <> 0 or s.held_by <> 0) and coalesce(s.amount, 0) <= 0, 'amount', s.amount::text, 'more than 0'),
    ((s.direction <> 0 or s.held_by <> 0 or s.type = 'OverdraftLimitChanged') and s.currency is distinct from s.of_currency,
     'currency', s.currency, s.of_currency),
    (s.direction < 0 and s.available < 0 and not s.forced and s.before is distinct from 'HoldCaptured',
     'balance', s.balance::text, 'at least ' || s.held - s.allowed),
    (s.type = 'HoldPlaced' and s.available < 0, 'held', s.held::text, 'at most ' || s.balance + s.allowed),
    (s.held_by < 0 and s.held < 0, 'held', s.held::text, 'at least 0'),
    (s.type = 'OverdraftLimitChanged' and s.available < 0 and s.allowed < s.allowed_before,
     'overdraft_limit', s.allowed::text, 'at least ' || s.held - s.balance),
    (s.overdraft_limit < 0, 'overdraft_limit', s.overdraft_limit::text, 'at least 0'),
    (s.direction > 0 and s.balance > 9223372036854775807, 'balance', s.balance::text, 'at most 9223372036854775807'),
    (s.type = 'AccountClosed' and s.balance <> 0, 'balance', s.balance::text, '0'),
    (s.type = 'AccountClosed' and s.held <> 0, 'held', s.held::text, '0'),
    ((s.snapshot->>'balance')::numeric <> s.balance, 'balance in the snapshot', s.snapshot->>'balance', s.balance::text),
    ((s.snapshot->>'held')::numeric <> s.held, 'held in the snapshot', s.snapshot->>'held', s.held::text),
    ((s.snapshot->>'overdraft_limit')::numeric <> s.allowed, 'overdraft_limit in the snapshot', s.snapshot->>'overdraft_limit', s.allowed::text),
    (s.snapshot->>'currency' <> s.of_currency, 'currency in the snapshot', s.snapshot->>'currency', s.of_currency),
    (s.snapshot->>'status' <> s.status, 'status in the snapshot', s.snapshot->>'status', s.status)
) as d(differs, field, has, want)
where d.differs`

const logHoldsSQL = `
with ends as (
    select position, stream_id, type, amount, payload->>'hold_id' as hold_id, payload->>'expires_at' as expires_at,
        amount + coalesce((payload->>'released')::numeric, 0) as whole
    from (select *, (payload->>'amount')::numeric as amount from events
          where type in ('HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired')) as e
), numbered as (
    select e.*, row_number() over w as n, first_value(stream_id) over w as placed_on, first_value(whole) over w as placed,
        first_value(expires_at) over w as expires
    from ends e window w as (partition by hold_id order by position)
)
select h.position, 'hold ' || coalesce(h.hold_id, '?') || ' at position ' || h.position, d.field, d.has, d.want
from numbered h
left join events m on h.type = 'HoldCaptured' and m.position = h.position + 1
cross join lateral (values
    ((h.n = 1) <> (h.type = 'HoldPlaced'), 'type', h.type, case when h.n = 1 then 'HoldPlaced' else 'an end of the hold' end),
    (h.n > 2, 'events', h.n::text, 'at most 2'),
    (h.stream_id <> h.placed_on, 'account', h.stream_id::text, h.placed_on::text),
    (h.n = 2 and h.type <> 'HoldPlaced' and h.whole is distinct from h.placed, 'amount', h.whole::text, h.placed::text),
    (h.n = 2 and h.type = 'HoldExpired' and h.expires is null, 'type', h.type, 'no expiry, since the hold has no expiry time'),
    (h.type = 'HoldCaptured' and h.position + 1 >= ` + begin + ` and (m.stream_id is distinct from h.stream_id or m.type not in ('MoneyWithdrawn', 'TransferSent')),
     'event after HoldCaptured', m.type, 'its movement'),
    (h.type = 'HoldCaptured' and m.stream_id = h.stream_id and (m.payload->>'amount')::numeric is distinct from h.amount,
     'amount moved', m.payload->>'amount', h.amount::text)
) as d(differs, field, has, want)
where d.differs`

const reversalsSQL = `
with r as (
    select e.*, (payload->>'amount')::numeric as amount, (payload->>'reversed_position')::bigint as at,
        sum((payload->>'amount')::numeric) over (partition by payload->>'reversed_position' order by position) as reversed,
        count(*) over (partition by payload->>'reversal_id') as sides
    from events e where type in ('CreditReversed', 'DebitReversed')
)
select r.position, 'reversal at position ' || r.position, d.field, d.has, d.want
from r
left join events m on m.position = r.at and m.position < r.position
    and m.type in ('MoneyDeposited', 'MoneyWithdrawn', 'TransferSent', 'TransferReceived')
left join lateral (
    select o.* from events o
    where o.position in (r.position - 1, r.position + 1) and o.payload->>'reversal_id' = r.payload->>'reversal_id'
    limit 1
) as o on r.payload ? 'transfer_id'
cross join lateral (values
    (m.position is null, 'reversed_position', r.payload->>'reversed_position', 'that of an earlier movement'),
    (m.position is not null and (r.type = 'CreditReversed') <> (m.type in ('MoneyDeposited', 'TransferReceived')), 'type', r.type,
     'the opposite of ' || m.type),
    (m.stream_id <> r.stream_id, 'account', r.stream_id::text, m.stream_id::text),
    (r.reversed > (m.payload->>'amount')::numeric, 'reversed in all', r.reversed::text, 'at most ' || (m.payload->>'amount')),
    (m.position is not null and r.payload->>'transfer_id' is distinct from m.payload->>'transfer_id',
     'transfer_id', r.payload->>'transfer_id', m.payload->>'transfer_id'),
    (m.position is not null and r.payload->>'counterparty_account_id' is distinct from
        coalesce(m.payload->>'to_account_id', m.payload->>'from_account_id'),
     'counterparty_account_id', r.payload->>'counterparty_account_id', coalesce(m.payload->>'to_account_id', m.payload->>'from_account_id')),
    (r.sides <> case when r.payload ? 'transfer_id' then 2 else 1 end, 'events with its reversal_id', r.sides::text,
     case when r.payload ? 'transfer_id' then '2' else '1' end),
    (r.payload ? 'transfer_id' and r.sides = 2 and (o.position is null or o.type = r.type or (o.payload->>'amount')::numeric <> r.amount
        or o.stream_id::text <> r.payload->>'counterparty_account_id' or o.payload->>'transfer_id' is distinct from r.payload->>'transfer_id'),
     'event beside it', o.type, 'the other side, of the same amount')
) as d(differs, field, has, want)
where d.differs and r.at >= ` + begin

const transfersSQL = `
select coalesce(s.position, r.position), 'transfer ' || coalesce(s.payload->>'transfer_id', r.payload->>'transfer_id', '?')
    || ' at position ' || coalesce(s.position, r.position), d.field, d.has, d.want
from (select * from events where type = 'TransferSent') as s
full join (select * from events where type = 'TransferReceived') as r on r.position = s.position + 1
cross join lateral (values
    (r.position is null, 'event after TransferSent', (select min(type) from events e where e.position = s.position + 1), 'TransferReceived'),
    (s.position is null, 'event before TransferReceived', (select min(type) from events e where e.position = r.position - 1), 'TransferSent'),
    (r.position is not null and s.position is not null and r.payload->>'transfer_id' is distinct from s.payload->>'transfer_id',
     'transfer_id received', r.payload->>'transfer_id', s.payload->>'transfer_id'),
    (r.position is not null and s.position is not null and r.payload->>'amount' is distinct from s.payload->>'amount',
     'amount received', r.payload->>'amount', s.payload->>'amount'),
    (r.position is not null and s.position is not null and r.payload->>'currency' is distinct from s.payload->>'currency',
     'currency received', r.payload->>'currency', s.payload->>'currency'),
    (r.position is not null and s.position is not null and s.payload->>'to_account_id' is distinct from r.stream_id::text,
     'receiving account', r.stream_id::text, s.payload->>'to_account_id'),
    (r.position is not null and s.position is not null and r.payload->>'from_account_id' is distinct from s.stream_id::text,
     'sending account', s.stream_id::text, r.payload->>'from_account_id')
) as d(differs, field, has, want)
where d.differs and coalesce(r.position, s.position + 1) >= ` + begin

const checkpointsSQL = `
select p.position, 'projection ' || p.id, d.field, d.has, d.want
from projections p
cross join (select coalesce((select position from events order by position desc limit 1), 0)) as h(head)
left join events e on e.position = p.position
cross join lateral (values
    (p.position > h.head, 'position', p.position::text, 'at most ' || h.head),
    (p.position > 0 and p.position <= h.head and p.last_event_id is distinct from e.event_id,
     'last_event_id', p.last_event_id::text, e.event_id::text)
) as d(differs, field, has, want)
where d.differs`

const snapshotsSQL = `
select e.position, 'account ' || e.stream_id || ' at position ' || e.position, d.field, d.has, d.want
from (select distinct on (stream_id) * from events where position < ` + begin + ` order by stream_id, version desc) as e
left join transactions t on t.account_id = e.stream_id and t.position = e.position
    and t.generation = (select generation from projections where id = 'transactions')
cross join lateral (values
    ('snapshot', case when e.metadata ? 'state' then 'present' else 'missing' end, 'present'),
    ('balance in the snapshot', coalesce(e.metadata->'state'->>'balance', t.balance::text), t.balance::text),
    ('held in the snapshot', coalesce(e.metadata->'state'->>'held', t.held::text), t.held::text),
    ('version', e.version::text, t.version::text)
) as d(field, has, want)
where d.has is distinct from d.want`
