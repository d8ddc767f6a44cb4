-- The read models. Every row belongs to a generation, one build of the read model. All amounts are in minor units of the
-- account's currency. Package internal/readmodel/column names the values of kind and status.

-- +goose Up
create table balances (
    generation      bigint      not null,
    account_id      uuid        not null,
    owner           text        not null,
    -- Without case and accents, as search by name compares it.
    owner_folded    text        not null,
    currency        text        not null,
    balance         bigint      not null,
    -- What open holds reserve of the balance and of the overdraft limit.
    held            bigint      not null,
    overdraft_limit bigint      not null,
    -- numeric, because a sum over an account's life may exceed what a balance can be
    deposited       numeric     not null,
    withdrawn       numeric     not null,
    status          text        not null,
    version         bigint      not null,
    position        bigint      not null,
    opened_position bigint      not null,
    opened_at       timestamptz not null,
    updated_at      timestamptz not null,
    closed_at       timestamptz,
    -- The caller's labels; null if there are none.
    metadata        jsonb
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- No column that changes with a movement of money is indexed, so that an update of a balance stays on its page (HOT).
create index balances_opened on balances (generation, opened_position);
create index balances_owner on balances (generation, owner, account_id);
create index balances_owner_folded on balances (generation, owner_folded, account_id);
-- The primary key comes last: while the table has no statistics, PostgreSQL estimates the same cost for it and for the indexes by
-- owner when it looks up an account, and then takes the last one. The others would read the whole generation.
alter table balances add primary key (generation, account_id);

-- A row for each event of an account, with the balance, what is held and the status after it: the last row at or before a
-- position is the account as of that position. Rows are never updated. The columns are ordered so that none is padded.
create table transactions (
    generation   bigint      not null,
    position     bigint      not null,
    version      bigint      not null,
    recorded_at  timestamptz not null,
    -- In minor units of the account's currency; of holds, what was reserved, captured or made available again. 0 for changes
    -- of the account.
    amount       bigint      not null,
    balance      bigint      not null,
    held         bigint      not null,
    -- Of reversals: the position of the movement that was reversed, which is one of the same account.
    reversed_position bigint,
    account_id   uuid        not null,
    -- Of transfers and their reversals: the other account, and the id that both rows share.
    counterparty uuid,
    transfer_id  uuid,
    -- Of holds.
    hold_id      uuid,
    -- Movements: d deposit, w withdrawal, i transfer in, o transfer out, b reversal in, r reversal out. Changes of the account:
    -- O opened, S suspended, R reactivated, C closed, N owner, L overdraft limit, M metadata. Holds: h placed, c captured,
    -- f released, e expired.
    kind         "char"      not null check (kind in ('d', 'w', 'i', 'o', 'b', 'r', 'O', 'S', 'R', 'C', 'N', 'L', 'M', 'h', 'c', 'f', 'e')),
    -- a active, s suspended, c closed
    status       "char"      not null check (status in ('a', 's', 'c')),
    reference    text        not null,
    -- Of movements and holds: the caller's labels; null if there are none.
    metadata     jsonb,
    primary key (generation, account_id, position)
);
create index transactions_position on transactions (generation, position);
create index transactions_reference on transactions (generation, reference, position) where reference <> '';
create index transactions_transfer on transactions (generation, transfer_id, position) where transfer_id is not null;
create index transactions_reversed on transactions (generation, reversed_position) where reversed_position is not null;
-- A search reads all of the pending list.
create index transactions_metadata on transactions using gin (metadata jsonb_path_ops) with (gin_pending_list_limit = 256)
    where metadata is not null;

-- The properties of accounts other than money and status: a row at the opening and one at each change. The last row at or before
-- a position is valid at that position. Written with transactions.
create table account_details (
    generation      bigint not null,
    account_id      uuid   not null,
    position        bigint not null,
    owner           text   not null,
    currency        text   not null,
    overdraft_limit bigint not null,
    -- null if there is none
    metadata        jsonb,
    primary key (generation, account_id, position)
);

-- A row for each hold, from its placing on. Amounts are in minor units of the currency.
create table holds (
    generation      bigint      not null,
    hold_id         uuid        not null,
    account_id      uuid        not null,
    amount          bigint      not null,
    -- 0 unless it was captured; the rest of amount was released then.
    captured        bigint      not null,
    currency        text        not null,
    reference       text        not null,
    metadata        jsonb,
    -- o open, c captured, r released, e expired
    status          "char"      not null check (status in ('o', 'c', 'r', 'e')),
    -- null if it does not end by itself
    expires_at      timestamptz,
    placed_at       timestamptz not null,
    placed_position bigint      not null,
    ended_at        timestamptz,
    ended_position  bigint,
    -- The transfer that it was captured with.
    transfer_id     uuid,
    primary key (generation, hold_id)
);
create index holds_account on holds (generation, account_id, placed_position);
-- Finds the captured hold of a transfer that is applied in a later batch; the capture is at the position before the transfer.
create index holds_captured on holds (generation, ended_position) where status = 'c';
create index holds_expiring on holds (generation, expires_at) where status = 'o' and expires_at is not null;

-- Sums are numeric, because over all accounts they may exceed what one balance can be. In minor units of the currency.
create table totals (
    generation bigint  not null,
    currency   text    not null,
    accounts   bigint  not null,
    -- Money from outside and money paid out, less what was reversed of either; transfers are neither.
    deposited  numeric not null,
    withdrawn  numeric not null,
    -- What transfers took from their senders and gave to their receivers, less what was reversed. The two differ only at a
    -- position between the two events of a transfer or of its reversal.
    sent       numeric not null,
    received   numeric not null,
    -- The sum of all balances, added up independently: deposited - withdrawn - sent + received.
    balance    numeric not null,
    primary key (generation, currency)
) with (fillfactor = 50);

-- The recent seconds of GET /stats. A second takes the slot of one that is too old to be reported, so that the table stays
-- small.
create table stats_seconds (
    generation bigint   not null,
    -- second modulo 64
    slot       smallint not null,
    -- Empty for events that move no money. Of a transfer TransferReceived is one of them, and of its reversal DebitReversed:
    -- the money is counted with the other event.
    currency   text     not null,
    -- Unix time
    second     bigint   not null,
    events     bigint   not null,
    movements  bigint   not null,
    -- In minor units of the currency.
    amount     numeric  not null,
    primary key (generation, slot, currency)
) with (fillfactor = 50);

create table stats_accounts (
    generation bigint not null primary key,
    -- Accounts ever opened and ever closed, and those that are suspended; the others are active.
    opened     bigint not null,
    suspended  bigint not null,
    closed     bigint not null
) with (fillfactor = 50);

-- The accounts that are suspended. Closing one lowers the number of suspended accounts, closing another that of active ones.
create table stats_suspended (
    generation bigint not null,
    account_id uuid   not null,
    primary key (generation, account_id)
);

-- +goose Down
drop table stats_suspended;
drop table stats_accounts;
drop table stats_seconds;
drop table totals;
drop table holds;
drop table account_details;
drop table transactions;
drop table balances;
