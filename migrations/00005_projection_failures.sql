-- What handlers could not apply, the way back to the previous generation, and a history of both kinds of rebuild.
-- DESIGN: docs/adr/0009-parking.md.

-- +goose Up
alter table projections
    -- How often an event could not be applied, ever, tries included.
    add column failures            bigint  not null default 0,
    -- The generation that was live before, while its rows are kept, and how far they are.
    add column previous_generation bigint,
    add column previous_version    integer,
    add column previous_position   bigint,
    -- Code of this version or below does not rebuild by itself: an operator has rolled back from what it had built.
    add column declined_version    integer not null default 0;

alter table projection_replays
    add column kind   text    not null default 'replay' check (kind in ('replay', 'rollback')),
    -- Streams parked in the generation when the replay ended.
    add column parked integer not null default 0,
    drop constraint projection_replays_projection_generation_key;
-- A rollback brings a generation back that a replay has built.
create unique index projection_replays_generation on projection_replays (projection, generation) where kind = 'replay';
create index projection_replays_history on projection_replays (projection, started_at desc);

-- One row a stream that a handler has failed on: the event it failed on, and how many of the stream wait from it on.
-- A stream waits for position .. the generation's checkpoint; what it waits for is read from the log, which cannot
-- change. It has no foreign key, so that recording a failure takes no lock but the one on the projection's row.
create table projection_failures (
    projection      text        not null,
    generation      bigint      not null,
    stream_id       uuid        not null,
    position        bigint      not null,
    event_id        uuid        not null,
    type            text        not null,
    error           text        not null,
    attempts        integer     not null,
    -- Until it is parked, the whole projection waits at the event while it is tried a few times.
    parked          boolean     not null,
    waiting         bigint      not null default 0,
    -- An operator has asked for a try.
    retry           boolean     not null default false,
    first_failed_at timestamptz not null default clock_timestamp(),
    last_tried_at   timestamptz not null default clock_timestamp(),
    primary key (projection, generation, stream_id)
);
create index projection_failures_position on projection_failures (projection, generation, position);

-- +goose Down
drop table projection_failures;
drop index projection_replays_history;
drop index projection_replays_generation;
delete from projection_replays where kind = 'rollback';
alter table projection_replays
    drop column parked,
    drop column kind,
    add constraint projection_replays_projection_generation_key unique (projection, generation);
alter table projections
    drop column declined_version,
    drop column previous_position,
    drop column previous_version,
    drop column previous_generation,
    drop column failures;
