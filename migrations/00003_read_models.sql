-- The read models. Every row belongs to a generation, one build of the read model by its projection; all amounts are in
-- minor units of the account's currency.

-- +goose Up
create table balances (
    generation      bigint      not null,
    account_id      uuid        not null,
    owner           text        not null,
    currency        text        not null,
    balance         bigint      not null,
    overdraft_limit bigint      not null,
    -- numeric, because a sum over an account's life may pass what a balance may not
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
-- Indexes only on columns that never change, so that an update of a balance stays on its page (HOT).
create index balances_opened on balances (generation, opened_position);
create index balances_owner on balances (generation, owner, account_id);
-- The primary key comes last: as long as nothing is known of the table, PostgreSQL finds it and balances_owner equally
-- good for a look-up of an account, and then takes the later one. The other reads the whole generation.
alter table balances add primary key (generation, account_id);

-- A row an event of an account, with the balance and the status that it left: the last row at or before a position is
-- the account as it stood then. Rows are never updated. The columns are ordered so that none is padded.
create table transactions (
    generation   bigint      not null,
    position     bigint      not null,
    version      bigint      not null,
    recorded_at  timestamptz not null,
    -- In minor units of the account's currency; 0 where no money moved, else more.
    amount       bigint      not null,
    balance      bigint      not null,
    account_id   uuid        not null,
    -- Of transfers: the other account, and what both of its rows have in common.
    counterparty uuid,
    transfer_id  uuid,
    -- Of money: d deposit, w withdrawal, i transfer in, o transfer out. Of the account itself: O opened, S suspended,
    -- R reactivated, C closed.
    kind         "char"      not null check (kind in ('d', 'w', 'i', 'o', 'O', 'S', 'R', 'C')),
    -- a active, s suspended, c closed
    status       "char"      not null check (status in ('a', 's', 'c')),
    reference    text        not null,
    primary key (generation, account_id, position)
);

-- What an account was opened with, which never changes.
create table transaction_accounts (
    generation      bigint not null,
    account_id      uuid   not null,
    opened_position bigint not null,
    owner           text   not null,
    currency        text   not null,
    overdraft_limit bigint not null,
    primary key (generation, account_id)
);

-- numeric, because a sum over all accounts may pass what one balance may not. In minor units of the currency.
create table totals (
    generation bigint  not null,
    currency   text    not null,
    accounts   bigint  not null,
    -- What came in from outside and what went out again; transfers are neither.
    deposited  numeric not null,
    withdrawn  numeric not null,
    -- What transfers took from their senders and gave to their receivers. The two differ at a position between the two
    -- events of a transfer, and nowhere else.
    sent       numeric not null,
    received   numeric not null,
    -- The sum of all balances, counted by itself: deposited - withdrawn - sent + received.
    balance    numeric not null,
    primary key (generation, currency)
) with (fillfactor = 50);

-- The recent seconds of GET /stats. A second takes the slot of one that is too old to be reported, so that the table stays
-- small.
create table stats_seconds (
    generation bigint   not null,
    -- second modulo 64
    slot       smallint not null,
    -- Empty for events that are no movement of money. The receiving side of a transfer is none, its money is counted as sent.
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

-- The accounts that are suspended: closing one is not to be counted as closing an active one.
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
