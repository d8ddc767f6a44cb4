package verify

// The read models, recomputed from the events that their projections have applied.

// live names the live generation of a projection and its checkpoint, and applied the events it has applied.
func live(projection string) string {
	return `
with live as (select generation, position from projections where id = '` + projection + `'),
parked as (
    select f.stream_id, f.position from projection_failures f join live l on f.generation = l.generation
    where f.projection = '` + projection + `' and f.parked
),
applied as (
    select e.position, e.stream_id, e.version, e.type, e.recorded_at, e.payload,
        coalesce((e.payload->>'amount')::numeric, 0) as amount,
        case when e.type in ('MoneyDeposited', 'TransferReceived') then 1
             when e.type in ('MoneyWithdrawn', 'TransferSent') then -1 else 0 end as direction
    from events e
    where e.position <= (select position from live)
      and not exists (select from parked p where p.stream_id = e.stream_id and e.position >= p.position)
)`
}

var balancesSQL = live("balances") + `,
folded as (
    select stream_id,
        max(payload->>'owner') filter (where type = 'AccountCreated') as owner,
        max(payload->>'currency') filter (where type = 'AccountCreated') as currency,
        max(payload->>'overdraft_limit') filter (where type = 'AccountCreated') as overdraft_limit,
        sum(direction * amount) as balance,
        coalesce(sum(amount) filter (where direction > 0), 0) as deposited,
        coalesce(sum(amount) filter (where direction < 0), 0) as withdrawn,
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
    ('owner', h.owner, w.owner),
    ('currency', h.currency, w.currency),
    ('balance', h.balance::text, w.balance::text),
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
    select a.*, sum(direction * amount) over w as balance,
        max(version) filter (where type in ('AccountCreated', 'AccountReactivated')) over w as activated,
        max(version) filter (where type = 'AccountSuspended') over w as suspended,
        max(version) filter (where type = 'AccountClosed') over w as closed
    from applied a window w as (partition by stream_id order by version rows unbounded preceding)
), want as (
    select s.*, case greatest(activated, suspended, closed) when closed then 'c' when suspended then 's' else 'a' end as status,
        case type when 'MoneyDeposited' then 'd' when 'MoneyWithdrawn' then 'w' when 'TransferReceived' then 'i'
            when 'TransferSent' then 'o' when 'AccountCreated' then 'O' when 'AccountSuspended' then 'S'
            when 'AccountReactivated' then 'R' when 'AccountClosed' then 'C' end as kind
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
    ('counterparty', h.counterparty::text, coalesce(w.payload->>'to_account_id', w.payload->>'from_account_id')),
    ('transfer_id', h.transfer_id::text, w.payload->>'transfer_id'),
    ('kind', h.kind::text, w.kind),
    ('status', h.status::text, w.status),
    ('reference', h.reference, coalesce(w.payload->>'reference', ''))
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.position is not null and w.position is not null))`

var detailsSQL = live("transactions") + `,
want as (select * from applied where type = 'AccountCreated'),
has as (select t.* from account_details t join live l on t.generation = l.generation)
select 0, 'account ' || coalesce(h.account_id, w.stream_id), d.field, d.has, d.want
from has h full join want w on w.stream_id = h.account_id
cross join lateral (values
    ('row', case when h.account_id is null then 'missing' else 'present' end, case when w.stream_id is null then 'missing' else 'present' end),
    ('position', h.position::text, w.position::text),
    ('owner', h.owner, w.payload->>'owner'),
    ('currency', h.currency, w.payload->>'currency'),
    ('overdraft_limit', h.overdraft_limit::text, w.payload->>'overdraft_limit')
) as d(field, has, want)
where d.has is distinct from d.want and (d.field = 'row' or (h.account_id is not null and w.stream_id is not null))`

var totalsSQL = live("totals") + `,
want as (
    select payload->>'currency' as currency, count(*) filter (where type = 'AccountCreated') as accounts,
        coalesce(sum(amount) filter (where type = 'MoneyDeposited'), 0) as deposited,
        coalesce(sum(amount) filter (where type = 'MoneyWithdrawn'), 0) as withdrawn,
        coalesce(sum(amount) filter (where type = 'TransferSent'), 0) as sent,
        coalesce(sum(amount) filter (where type = 'TransferReceived'), 0) as received,
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
// exceptions: a checkpoint between the two events of a transfer, and transfers to or from parked accounts.
var moneySQL = live("balances") + `,
flows as (
    select payload->>'currency' as currency,
        coalesce(sum(amount) filter (where type = 'MoneyDeposited'), 0) as deposited,
        coalesce(sum(amount) filter (where type = 'MoneyWithdrawn'), 0) as withdrawn,
        coalesce(sum(amount) filter (where type = 'TransferSent' and position = (select position from live)), 0) as under_way,
        coalesce(sum(direction * amount) filter (where type in ('TransferSent', 'TransferReceived')), 0) as transferred
    from applied where payload ? 'currency' group by payload->>'currency'
), want as (
    select currency, deposited - withdrawn
        + case when exists (select from parked) then transferred else -under_way end as balance
    from flows
), has as (
    select b.currency, sum(b.balance) as balance from balances b join live l on b.generation = l.generation group by b.currency
)
select 0, 'currency ' || coalesce(h.currency, w.currency), 'sum of balances', coalesce(h.balance, 0)::text, coalesce(w.balance, 0)::text
from has h full join want w on w.currency = h.currency
where coalesce(h.balance, 0) <> coalesce(w.balance, 0)`

// statsSecondsSQL expects the newest second of each slot and currency, with what happened in it.
var statsSecondsSQL = live("stats") + `,
seconds as (
    select floor(extract(epoch from recorded_at))::bigint as second,
        case when type in ('MoneyDeposited', 'MoneyWithdrawn', 'TransferSent') then payload->>'currency' else '' end as currency,
        count(*) as events, count(*) filter (where type in ('MoneyDeposited', 'MoneyWithdrawn', 'TransferSent')) as movements,
        coalesce(sum(amount) filter (where type in ('MoneyDeposited', 'MoneyWithdrawn', 'TransferSent')), 0) as amount
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
