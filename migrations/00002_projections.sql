-- The projector's own state, and the balances read model.

-- +goose Up
create table projections (
    id             text        not null primary key,
    -- The code's version of the projection that built the live generation.
    version        integer     not null,
    generation     bigint      not null,
    position       bigint      not null default 0,
    last_event_id  uuid,
    status         text        not null default 'running' check (status in ('running', 'paused', 'halted')),
    -- The owner's epoch: raised each time the lease changes hands, and part of every compare-and-set.
    epoch          bigint      not null default 0,
    owner          text        not null default '',
    lease_until    timestamptz not null default '-infinity',
    error_count    integer     not null default 0,
    last_error     text        not null default '',
    error_position bigint      not null default 0,
    updated_at     timestamptz not null default now()
);

create table projection_replays (
    id          uuid        not null primary key,
    projection  text        not null references projections (id),
    version     integer     not null,
    generation  bigint      not null,
    state       text        not null default 'running'
                check (state in ('running', 'completed', 'failed', 'cancelled')),
    -- total is the head fixed at the start; position the last event folded into the new generation.
    total       bigint      not null,
    processed   bigint      not null default 0,
    position    bigint      not null default 0,
    error       text        not null default '',
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    unique (projection, generation)
);
create unique index projection_replays_one_running on projection_replays (projection) where state = 'running';

-- All amounts are in minor units of the currency.
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
    closed_at       timestamptz,
    primary key (generation, account_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- Indexes only on columns that never change, so that an update of a balance stays on its page (HOT).
create index balances_opened on balances (generation, opened_position);
create index balances_owner on balances (generation, owner, account_id);

-- +goose Down
drop table balances;
drop table projection_replays;
drop table projections;
