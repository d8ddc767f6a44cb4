-- The read models. Every row belongs to a generation, one build of the read model. All amounts are in minor units of the
-- account's currency. Package internal/readmodel/column names the values of kind and status.

-- +goose Up
create table balances (
    generation      bigint      not null,
    account_id      uuid        not null,
    owner           text        not null,
    currency        text        not null,
    balance         bigint      not null,
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
    closed_at       timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- Only columns that never change are indexed, so that an update of a balance stays on its page (HOT).
create index balances_opened on balances (generation, opened_position);
create index balances_owner on balances (generation, owner, account_id);
-- The primary key comes last: as long as nothing is known of the table, PostgreSQL finds it and balances_owner equally
-- good for a look-up of an account, and then takes the later one. The other reads the whole generation.
alter table balances add primary key (generation, account_id);

-- A row for each event of an account, with the balance and the status after it: the last row at or before a position is the
-- account as of that position. Rows are never updated. The columns are ordered so that none is padded.
create table transactions (
    generation   bigint      not null,
    position     bigint      not null,
    version      bigint      not null,
    recorded_at  timestamptz not null,
    -- In minor units of the account's currency; 0 where no money moved.
    amount       bigint      not null,
    balance      bigint      not null,
    account_id   uuid        not null,
    -- Of transfers: the other account, and the id that both rows share.
    counterparty uuid,
    transfer_id  uuid,
    -- Movements: d deposit, w withdrawal, i transfer in, o transfer out. Changes of the account: O opened, S suspended,
    -- R reactivated, C closed.
    kind         "char"      not null check (kind in ('d', 'w', 'i', 'o', 'O', 'S', 'R', 'C')),
    -- a active, s suspended, c closed
    status       "char"      not null check (status in ('a', 's', 'c')),
    reference    text        not null,
    primary key (generation, account_id, position)
);

-- The properties that an account is opened with, which never change.
create table transaction_accounts (
    generation      bigint not null,
    account_id      uuid   not null,
    opened_position bigint not null,
    owner           text   not null,
    currency        text   not null,
    overdraft_limit bigint not null,
    primary key (generation, account_id)
);

-- Sums are numeric, because over all accounts they may exceed what one balance can be. In minor units of the currency.
create table totals (
    generation bigint  not null,
    currency   text    not null,
    accounts   bigint  not null,
    -- Money from outside and money paid out; transfers are neither.
    deposited  numeric not null,
    withdrawn  numeric not null,
    -- What transfers took from their senders and gave to their receivers. The two differ only at a position between the
    -- two events of a transfer.
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
    -- Empty for events that move no money. TransferReceived is one of them: its money is counted with TransferSent.
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
drop table transaction_accounts;
drop table transactions;
drop table balances;
