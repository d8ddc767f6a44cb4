package verify

// The checks of read models recompute them from the events that their projections have applied.

// live returns the beginning of a check: live is the live generation of a projection with its checkpoint, parked are its parked accounts,
// and applied are the events that it has applied.
func live(projection string) string {
	return `
with live as (select generation, position from projections where id = '` + projection + `'),
parked as (
    select f.stream_id, f.position from projection_failures f join live l on f.generation = l.generation
    where f.projection = '` + projection + `' and f.parked
),
erased as materialized (
    select stream_id from events where type = 'SubjectErased' and position <= (select position from live)
      and not exists (select from parked p where p.stream_id = events.stream_id and events.position >= p.position)
),
applied as (
    select e.position, e.stream_id, e.version, e.type, e.recorded_at,
        case when e.stream_id in (select stream_id from erased) then ` + erasedPayload + ` else e.payload end as payload,
        e.payload ? 'sealed' and e.stream_id not in (select stream_id from erased) as sealed,
        coalesce((e.payload->>'amount')::numeric, 0) as amount,
        ` + direction + ` as direction, ` + heldBy + ` as held_by
    from events e
    where e.position <= (select position from live)
      and not exists (select from parked p where p.stream_id = e.stream_id and e.position >= p.position)
)`
}

// erasedPayload is the payload of an event without its text, whether that is sealed or not.
const erasedPayload = `e.payload - '{sealed,owner,reference,reason,metadata}'::text[]
            || case when e.type in ('AccountCreated', 'OwnerChanged') then '{"owner": ""}' else '{}' end::jsonb`

// direction is 1 for an event that brings money in, -1 for one that takes it out, and 0 for all others.
const direction = `case when type in ('MoneyDeposited', 'TransferReceived', 'DebitReversed') then 1
             when type in ('MoneyWithdrawn', 'TransferSent', 'CreditReversed') then -1 else 0 end`

// heldBy is what an event adds to the held sum of its account.
const heldBy = `case when type = 'HoldPlaced' then (payload->>'amount')::numeric
             when type = 'HoldCaptured' then -(payload->>'amount')::numeric - (payload->>'released')::numeric
             when type in ('HoldReleased', 'HoldExpired') then -(payload->>'amount')::numeric else 0 end`

// foldedOwner is w.owner folded as h.owner_folded should be, without the letters that do not fold to ASCII. PostgreSQL alone cannot
// fold the case of those, so they are not compared.
const foldedOwner = `lower(regexp_replace(replace(replace(replace(replace(replace(replace(replace(replace(translate(normalize(w.owner, nfkd),
        'øØłŁđĐðÐħĦıŧŦŋŊĸəƏɓƁɗƊɖƉɛƐɔƆƙƘɲƝƴƳɣƔ', 'oollddddhhittnnqeebbddddeeookknnyygg'),
        'ß', 'ss'), 'ẞ', 'ss'), 'æ', 'ae'), 'Æ', 'ae'), 'œ', 'oe'), 'Œ', 'oe'), 'þ', 'th'), 'Þ', 'th'), '[^\u0001-\u007f]', '', 'g') collate "C")`

var balancesSQL = live("balances") + `,
folded as (
    select stream_id,
        (array_agg(payload->>'owner' order by version desc) filter (where type in ('AccountCreated', 'OwnerChanged')))[1] as owner,
        max(payload->>'currency') filter (where type = 'AccountCreated') as currency,
        (array_agg(payload->>'overdraft_limit' order by version desc)
            filter (where type in ('AccountCreated', 'OverdraftLimitChanged')))[1] as overdraft_limit,
        (array_agg(payload->'metadata' order by version desc) filter (where type in ('AccountCreated', 'MetadataChanged')))[1] as metadata,
        bool_or(sealed) as sealed,
        sum(direction * amount) as balance, sum(held_by) as held,
        coalesce(sum(direction * amount) filter (where type in ('MoneyDeposited', 'TransferReceived', 'CreditReversed')), 0) as deposited,
        coalesce(sum(-direction * amount) filter (where type in ('MoneyWithdrawn', 'TransferSent', 'DebitReversed')), 0) as withdrawn,
        max(version) filter (where type in ('AccountCreated', 'AccountReactivated')) as activated,
        max(version) filter (where type = 'AccountSuspended') as suspended,
        max(version) filter (where type = 'AccountClosed') as closed,
        max(version) as version, max(position) as position,
        min(position) filter (where type = 'AccountCreated') as opened_position,
        min(recorded_at) filter (where type = 'AccountCreated') as opened_at,
        max(recorded_at) as updated_at,
        max(recorded_at) filter (where type = 'AccountClosed') as closed_at
    from applied group by stream_id
), want as (
    select f.*, case greatest(activated, suspended, closed) when closed then 'closed' when suspended then 'suspended'
        else 'active' end as status
    from folded f
), has as (
    select b.* from balances b join live l on b.generation = l.generation
)
select 0, 'account ' || coalesce(h.account_id, w.stream_id), d.field, d.has, d.want
from has h full join want w on w.stream_id = h.account_id
cross join lateral (values
    ('row', case when h.account_id is null then 'missing' else 'present' end, case when w.stream_id is null then 'missing' else 'present' end),
    ('owner', h.owner, coalesce(w.owner, h.owner)),
    ('owner_folded', case when w.owner is null then null when w.owner ~ '^[\u0001-\u007f]*$' then h.owner_folded
        else regexp_replace(h.owner_folded, '[^\u0001-\u007f]', '', 'g') end, ` + foldedOwner + `),
    ('currency', h.currency, w.currency),
    ('balance', h.balance::text, w.balance::text),
    ('held', h.held::text, w.held::text),
    ('metadata', h.metadata::text, case when w.sealed then h.metadata else nullif(w.metadata, '{}') end::text),
    ('overdraft_limit', h.overdraft_limit::text, w.overdraft_limit),
    ('deposited', h.deposited::text, w.deposited::text),
    ('withdrawn', h.withdrawn::text, w.withdrawn::text),
    ('status', h.status, w.status),
    ('version', h.version::text, w.version::text),
    ('position', h.position::text, w.position::text),
    ('opened_position', h.opened_position::text, w.opened_position::text),
    ('opened_at', h.opened_at::text, w.opened_at::text),
    ('updated_at', h.updated_at::text, w.updated_at::text),
    ('closed_at', h.closed_at::text, w.closed_at::text)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.account_id is not null and w.stream_id is not null))`

var transactionsSQL = live("transactions") + `,
states as (
    select a.*, sum(direction * amount) over w as balance, sum(held_by) over w as held,
        max(version) filter (where type in ('AccountCreated', 'AccountReactivated')) over w as activated,
        max(version) filter (where type = 'AccountSuspended') over w as suspended,
        max(version) filter (where type = 'AccountClosed') over w as closed
    from applied a window w as (partition by stream_id order by version rows unbounded preceding)
), want as (
    select s.*, case greatest(activated, suspended, closed) when closed then 'c' when suspended then 's' else 'a' end as status,
        case type when 'MoneyDeposited' then 'd' when 'MoneyWithdrawn' then 'w' when 'TransferReceived' then 'i'
            when 'TransferSent' then 'o' when 'AccountCreated' then 'O' when 'AccountSuspended' then 'S'
            when 'AccountReactivated' then 'R' when 'AccountClosed' then 'C' when 'OwnerChanged' then 'N'
            when 'OverdraftLimitChanged' then 'L' when 'MetadataChanged' then 'M' when 'SubjectErased' then 'E' when 'HoldPlaced' then 'h'
            when 'HoldCaptured' then 'c' when 'HoldReleased' then 'f' when 'HoldExpired' then 'e'
            when 'CreditReversed' then 'r' when 'DebitReversed' then 'b' end as kind
    from states s
), has as (
    select t.* from transactions t join live l on t.generation = l.generation
)
select coalesce(h.position, w.position), 'account ' || coalesce(h.account_id, w.stream_id) || ' at position '
    || coalesce(h.position, w.position), d.field, d.has, d.want
from has h full join want w on w.position = h.position and w.stream_id = h.account_id
cross join lateral (values
    ('row', case when h.position is null then 'missing' else 'present' end, case when w.position is null then 'missing' else 'present' end),
    ('version', h.version::text, w.version::text),
    ('recorded_at', h.recorded_at::text, w.recorded_at::text),
    ('amount', h.amount::text, w.amount::text),
    ('balance', h.balance::text, w.balance::text),
    ('held', h.held::text, w.held::text),
    ('reversed_position', h.reversed_position::text, w.payload->>'reversed_position'),
    ('counterparty', h.counterparty::text,
     coalesce(w.payload->>'to_account_id', w.payload->>'from_account_id', w.payload->>'counterparty_account_id')),
    ('transfer_id', h.transfer_id::text, w.payload->>'transfer_id'),
    ('hold_id', h.hold_id::text, w.payload->>'hold_id'),
    ('metadata', h.metadata::text,
     case when w.type in ('AccountCreated', 'MetadataChanged') then null when w.sealed then h.metadata else nullif(w.payload->'metadata', '{}') end::text),
    ('kind', h.kind::text, w.kind),
    ('status', h.status::text, w.status),
    ('reference', h.reference, case when w.sealed then h.reference else coalesce(w.payload->>'reference', '') end)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.position is not null and w.position is not null))`

var detailsSQL = live("transactions") + `,
changes as (
    select *, count(*) filter (where type in ('AccountCreated', 'OwnerChanged')) over w as owners,
        count(*) filter (where type in ('AccountCreated', 'OverdraftLimitChanged')) over w as limits,
        count(*) filter (where type in ('AccountCreated', 'MetadataChanged')) over w as metadatas
    from applied where type in ('AccountCreated', 'OwnerChanged', 'OverdraftLimitChanged', 'MetadataChanged')
    window w as (partition by stream_id order by version)
), want as (
    select stream_id, position, first_value(payload->>'currency') over (partition by stream_id order by version) as currency,
        first_value(payload->>'owner') over (partition by stream_id, owners order by version) as owner,
        first_value(payload->>'overdraft_limit') over (partition by stream_id, limits order by version) as overdraft_limit,
        first_value(payload->'metadata') over (partition by stream_id, metadatas order by version) as metadata,
        bool_or(sealed) over (partition by stream_id) as sealed
    from changes
), has as (select t.* from account_details t join live l on t.generation = l.generation)
select coalesce(h.position, w.position), 'account ' || coalesce(h.account_id, w.stream_id) || ' at position '
    || coalesce(h.position, w.position), d.field, d.has, d.want
from has h full join want w on w.stream_id = h.account_id and w.position = h.position
cross join lateral (values
    ('row', case when h.account_id is null then 'missing' else 'present' end, case when w.stream_id is null then 'missing' else 'present' end),
    ('owner', h.owner, coalesce(w.owner, h.owner)),
    ('currency', h.currency, w.currency),
    ('overdraft_limit', h.overdraft_limit::text, w.overdraft_limit),
    ('metadata', h.metadata::text, case when w.sealed then h.metadata else nullif(w.metadata, '{}') end::text)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.account_id is not null and w.stream_id is not null))`

var holdsSQL = live("holds") + `,
ended as (
    select e.*, m.payload->>'transfer_id' as transfer_id, case e.type when 'HoldCaptured' then 'c' when 'HoldReleased' then 'r' else 'e' end as status
    from applied e
    left join applied m on e.type = 'HoldCaptured' and m.type = 'TransferSent' and m.position = e.position + 1 and m.stream_id = e.stream_id
    where e.type in ('HoldCaptured', 'HoldReleased', 'HoldExpired')
), want as (
    select p.payload->>'hold_id' as hold_id, p.stream_id, p.payload, p.sealed, p.position, p.recorded_at, coalesce(e.status, 'o') as status,
        case e.status when 'c' then e.amount else 0 end as captured, e.position as ended_position, e.recorded_at as ended_at, e.transfer_id
    from applied p left join ended e on e.payload->>'hold_id' = p.payload->>'hold_id'
    where p.type = 'HoldPlaced'
), has as (
    select t.* from holds t join live l on t.generation = l.generation
)
select coalesce(h.placed_position, w.position), 'hold ' || coalesce(h.hold_id::text, w.hold_id), d.field, d.has, d.want
from has h full join want w on w.hold_id = h.hold_id::text
cross join lateral (values
    ('row', case when h.hold_id is null then 'missing' else 'present' end, case when w.hold_id is null then 'missing' else 'present' end),
    ('account_id', h.account_id::text, w.stream_id::text),
    ('amount', h.amount::text, w.payload->>'amount'),
    ('captured', h.captured::text, w.captured::text),
    ('currency', h.currency, w.payload->>'currency'),
    ('reference', h.reference, case when w.sealed then h.reference else coalesce(w.payload->>'reference', '') end),
    ('metadata', h.metadata::text, case when w.sealed then h.metadata else nullif(w.payload->'metadata', '{}') end::text),
    ('status', h.status::text, w.status),
    ('expires_at', h.expires_at::text, (w.payload->>'expires_at')::timestamptz::text),
    ('placed_at', h.placed_at::text, w.recorded_at::text),
    ('placed_position', h.placed_position::text, w.position::text),
    ('ended_at', h.ended_at::text, w.ended_at::text),
    ('ended_position', h.ended_position::text, w.ended_position::text),
    ('transfer_id', h.transfer_id::text, w.transfer_id)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.hold_id is not null and w.hold_id is not null))`

// Conditions on an event, one for each sum of totals that it may change. A reversal changes the sum of the movement that it reverses.
const (
	isDeposited = `type = 'MoneyDeposited' or type = 'CreditReversed' and not payload ? 'transfer_id'`
	isWithdrawn = `type = 'MoneyWithdrawn' or type = 'DebitReversed' and not payload ? 'transfer_id'`
	isSent      = `type = 'TransferSent' or type = 'DebitReversed' and payload ? 'transfer_id'`
	isReceived  = `type = 'TransferReceived' or type = 'CreditReversed' and payload ? 'transfer_id'`
)

var totalsSQL = live("totals") + `,
want as (
    select payload->>'currency' as currency, count(*) filter (where type = 'AccountCreated') as accounts,
        coalesce(sum(direction * amount) filter (where ` + isDeposited + `), 0) as deposited,
        coalesce(sum(-direction * amount) filter (where ` + isWithdrawn + `), 0) as withdrawn,
        coalesce(sum(-direction * amount) filter (where ` + isSent + `), 0) as sent,
        coalesce(sum(direction * amount) filter (where ` + isReceived + `), 0) as received,
        sum(direction * amount) as balance
    from applied where payload ? 'currency' group by payload->>'currency'
), has as (
    select t.* from totals t join live l on t.generation = l.generation
)
select 0, 'currency ' || coalesce(h.currency, w.currency), d.field, d.has, d.want
from has h full join want w on w.currency = h.currency
cross join lateral (values
    ('row', case when h.currency is null then 'missing' else 'present' end, case when w.currency is null then 'missing' else 'present' end),
    ('accounts', h.accounts::text, w.accounts::text),
    ('deposited', h.deposited::text, w.deposited::text),
    ('withdrawn', h.withdrawn::text, w.withdrawn::text),
    ('sent', h.sent::text, w.sent::text),
    ('received', h.received::text, w.received::text),
    ('balance', h.balance::text, w.balance::text)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.currency is not null and w.currency is not null))`

// moneySQL counts deposits and withdrawals only, since transfers must neither create nor lose money. There are two
// exceptions: a checkpoint between the two events of a transfer or of its reversal, and transfers to or from parked accounts.
var moneySQL = live("balances") + `,
flows as (
    select payload->>'currency' as currency,
        coalesce(sum(direction * amount) filter (where ` + isDeposited + ` or ` + isWithdrawn + `), 0) as outside,
        coalesce(sum(direction * amount) filter (where position = (select position from live)
            and (type = 'TransferSent' or exists (
                select from events n where n.position = a.position + 1 and n.payload->>'reversal_id' = a.payload->>'reversal_id'))), 0) as in_transit,
        coalesce(sum(direction * amount) filter (where ` + isSent + ` or ` + isReceived + `), 0) as transferred
    from applied a where payload ? 'currency' group by payload->>'currency'
), want as (
    select currency, outside + case when exists (select from parked) then transferred else in_transit end as balance
    from flows
), has as (
    select b.currency, sum(b.balance) as balance from balances b join live l on b.generation = l.generation group by b.currency
)
select 0, 'currency ' || coalesce(h.currency, w.currency), 'sum of balances', coalesce(h.balance, 0)::text, coalesce(w.balance, 0)::text
from has h full join want w on w.currency = h.currency
where coalesce(h.balance, 0) <> coalesce(w.balance, 0)`

// countsAsMovement is true for events that move money, but only for one of the two events of a transfer or its reversal.
const countsAsMovement = `(type in ('MoneyDeposited', 'MoneyWithdrawn', 'TransferSent', 'CreditReversed')
            or type = 'DebitReversed' and not payload ? 'transfer_id')`

// statsSecondsSQL expects the newest second of each slot and currency, with its counts and amount.
var statsSecondsSQL = live("stats") + `,
seconds as (
    select floor(extract(epoch from recorded_at))::bigint as second,
        case when ` + countsAsMovement + ` then payload->>'currency' else '' end as currency,
        count(*) as events, count(*) filter (where ` + countsAsMovement + `) as movements,
        coalesce(sum(amount) filter (where ` + countsAsMovement + `), 0) as amount
    from applied group by 1, 2
), want as (
    select distinct on (second % 64, currency) second % 64 as slot, * from seconds order by second % 64, currency, second desc
), has as (
    select s.* from stats_seconds s join live l on s.generation = l.generation
)
select coalesce(h.slot, w.slot), 'slot ' || coalesce(h.slot, w.slot) || ' of currency "' || coalesce(h.currency, w.currency) || '"',
    d.field, d.has, d.want
from has h full join want w on w.slot = h.slot and w.currency = h.currency
cross join lateral (values
    ('row', case when h.slot is null then 'missing' else 'present' end, case when w.slot is null then 'missing' else 'present' end),
    ('second', h.second::text, w.second::text),
    ('events', h.events::text, w.events::text),
    ('movements', h.movements::text, w.movements::text),
    ('amount', h.amount::text, w.amount::text)
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.slot is not null and w.slot is not null))`

// suspendedAccounts adds the accounts whose last change of status was a suspension.
const suspendedAccounts = `,
suspended as (
    select stream_id from applied group by stream_id
    having max(version) filter (where type = 'AccountSuspended')
        > coalesce(max(version) filter (where type in ('AccountReactivated', 'AccountClosed')), 0)
)`

var statsAccountsSQL = live("stats") + suspendedAccounts + `,
want as (
    select count(*) filter (where type = 'AccountCreated') as opened, (select count(*) from suspended) as suspended,
        count(*) filter (where type = 'AccountClosed') as closed
    from applied
), has as (
    select sum(s.opened) as opened, sum(s.suspended) as suspended, sum(s.closed) as closed
    from stats_accounts s join live l on s.generation = l.generation
)
select 0, 'accounts', d.field, d.has, d.want
from has h cross join want w
cross join lateral (values
    ('opened', coalesce(h.opened, 0)::text, w.opened::text),
    ('suspended', coalesce(h.suspended, 0)::text, w.suspended::text),
    ('closed', coalesce(h.closed, 0)::text, w.closed::text)
) as d(field, has, want)
where d.has <> d.want`

var statsSuspendedSQL = live("stats") + suspendedAccounts + `,
has as (
    select s.account_id from stats_suspended s join live l on s.generation = l.generation
)
select 0, 'account ' || coalesce(h.account_id, w.stream_id), 'row', case when h.account_id is null then 'missing' else 'present' end,
    case when w.stream_id is null then 'missing' else 'present' end
from has h full join suspended w on w.stream_id = h.account_id
where h.account_id is null or w.stream_id is null`
