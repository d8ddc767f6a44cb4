-- Subscriptions whose events are sent to a URL, and what became of each attempt. DESIGN: docs/adr/0018-webhooks.md.

-- +goose Up
create table webhooks (
    id                    uuid        not null primary key,
    url                   text        not null,
    -- Which events are sent; an empty list is all of them.
    types                 text[]      not null default '{}',
    accounts              uuid[]      not null default '{}',
    state                 text        not null default 'active' check (state in ('active', 'paused', 'parked', 'disabled')),
    -- The cursor: every event up to position was delivered, or is not one to send. The event there is last_event_id, if known.
    position              bigint      not null check (position >= 0),
    last_event_id         uuid,
    -- Raised each time the lease changes hands or the subscription is changed, and part of every compare-and-set.
    epoch                 bigint      not null default 0,
    owner                 text        not null default '',
    lease_until           timestamptz not null default '-infinity',
    -- Attempts at the event after the cursor, and since when they have failed.
    attempts              integer     not null default 0,
    failing_since         timestamptz,
    next_attempt_at       timestamptz,
    last_error            text        not null default '',
    last_delivered_at     timestamptz,
    -- Needed as they are to sign. The previous secret signs too, until its time.
    secret                bytea       not null,
    previous_secret       bytea,
    previous_secret_until timestamptz,
    -- How many rows webhook_deliveries has had of it.
    deliveries            bigint      not null default 0,
    created_at            timestamptz not null default clock_timestamp(),
    updated_at            timestamptz not null default clock_timestamp()
);

-- The latest attempts of each subscription; older ones are deleted as new ones come.
create table webhook_deliveries (
    webhook    uuid        not null references webhooks (id) on delete cascade,
    number     bigint      not null,
    position   bigint      not null,
    event_id   uuid        not null,
    type       text        not null,
    attempt    integer     not null,
    delivered  boolean     not null,
    -- Null when there was no response.
    status     integer,
    latency_ms bigint      not null,
    error      text        not null default '',
    at         timestamptz not null default clock_timestamp(),
    primary key (webhook, number)
);

-- +goose Down
drop table webhook_deliveries;
drop table webhooks;
