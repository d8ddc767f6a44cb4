-- The state of the projections, their replays, and the events that could not be applied.
-- DESIGN: docs/adr/0002-replay-by-generations.md, docs/adr/0009-parking.md.

-- +goose Up
create table projections (
    id                  text        not null primary key,
    -- The version of the code that built the live generation.
    version             integer     not null,
    generation          bigint      not null,
    position            bigint      not null default 0,
    last_event_id       uuid,
    status              text        not null default 'running' check (status in ('running', 'paused', 'halted')),
    -- Raised each time the lease changes hands, and part of every compare-and-set.
    epoch               bigint      not null default 0,
    owner               text        not null default '',
    lease_until         timestamptz not null default '-infinity',
    error_count         integer     not null default 0,
    last_error          text        not null default '',
    error_position      bigint      not null default 0,
    updated_at          timestamptz not null default now(),
    -- How often applying an event has failed, retries included.
    failures            bigint      not null default 0,
    -- The generation that was live before, while its rows are kept, and its checkpoint.
    previous_generation bigint,
    previous_version    integer,
    previous_position   bigint,
    previous_event_id   uuid,
    -- Code of this version or below does not rebuild by itself, because an operator has rolled back what it built.
    declined_version    integer     not null default 0
);

create table projection_replays (
    id          uuid        not null primary key,
    projection  text        not null references projections (id),
    version     integer     not null,
    generation  bigint      not null,
    state       text        not null default 'running'
                check (state in ('running', 'completed', 'failed', 'cancelled')),
    -- total is the head at the start; position is the last event folded into the new generation.
    total       bigint      not null,
    processed   bigint      not null default 0,
    position    bigint      not null default 0,
    -- The event at position, which a log that went back no longer has; null at 0.
    last_event_id uuid,
    error       text        not null default '',
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    kind        text        not null default 'replay' check (kind in ('replay', 'rollback')),
    -- The number of streams parked in the generation when the replay ended.
    parked      integer     not null default 0
);
create unique index projection_replays_one_running on projection_replays (projection) where state = 'running';
-- A rollback brings back a generation that a replay has built.
create unique index projection_replays_generation on projection_replays (projection, generation) where kind = 'replay';
create index projection_replays_history on projection_replays (projection, started_at desc);

-- A row for each stream with an event that could not be applied: that event, and how many of the stream's events wait from it
-- on, up to the generation's checkpoint. A retry reads them from the log. There is no foreign key, so that recording a failure
-- locks nothing but the projection's row.
create table projection_failures (
    projection      text        not null,
    generation      bigint      not null,
    stream_id       uuid        not null,
    position        bigint      not null,
    event_id        uuid        not null,
    type            text        not null,
    error           text        not null,
    attempts        integer     not null,
    -- Until the stream is parked, the whole projection waits while the event is retried.
    parked          boolean     not null,
    waiting         bigint      not null default 0,
    -- An operator has requested a retry.
    retry           boolean     not null default false,
    first_failed_at timestamptz not null default clock_timestamp(),
    last_tried_at   timestamptz not null default clock_timestamp(),
    primary key (projection, generation, stream_id)
);
create index projection_failures_position on projection_failures (projection, generation, position);

-- Views for readers of read models, because the tables belong to the projector. A reader joins one of these views with the rows
-- that it reads, in one statement, so that all rows are of one complete generation.

-- The generation to read, and the position up to which it is applied.
create view live_generations as select id as projection, generation, position from projections;

-- The streams whose events are missing from a position on, until a retry applies them.
create view parked_streams as
select projection, generation, stream_id, position from projection_failures where parked;

-- +goose Down
drop view parked_streams;
drop view live_generations;
drop table projection_failures;
drop table projection_replays;
drop table projections;
