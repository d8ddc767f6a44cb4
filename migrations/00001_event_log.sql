-- The event log and the one function that appends to it. DESIGN: docs/adr/0001-order-of-the-log.md.

-- +goose Up
create table events (
    position       bigint      not null,
    stream_id      uuid        not null,
    version        bigint      not null,
    event_id       uuid        not null,
    type           text        not null,
    schema_version integer     not null,
    payload        jsonb       not null,
    metadata       jsonb       not null,
    recorded_at    timestamptz not null,
    constraint events_pkey primary key (position),
    constraint events_stream_version unique (stream_id, version),
    constraint events_counts_from_one check (position > 0 and version > 0)
);
comment on table events is 'Append-only. Positions are 1..N without a gap, in commit order; written by append_events alone.';

-- A row for each idempotency key that a command committed with. The answer is not stored: it is rendered again from
-- the events at first_position .. first_position + event_count - 1, which never change.
create table idempotency_keys (
    key            uuid    not null,
    fingerprint    uuid    not null,
    first_position bigint  not null,
    event_count    integer not null,
    constraint idempotency_keys_pkey primary key (key)
);
-- Keys are written in position order, so that a block-range index is enough to find the expired ones.
create index idempotency_keys_position on idempotency_keys using brin (first_position) with (pages_per_range = 16);

-- +goose StatementBegin
-- append_events takes a batch of units, each of which is appended whole or not at all, and returns what became of
-- them. Unit u has the events unit_first[u] .. unit_first[u] + unit_events[u] - 1 of the event arrays (from 1), each
-- with the version it is to have and, in follows, the id of the event before it on its stream (null for the first).
-- A unit may carry idempotency keys: key_unit names the unit a key belongs to, and key_first and key_events the events
-- it answers for. heads are those of the events that follow on one which no earlier event of the batch is.
--
-- The order of the statements is what makes the log gapless: the lock first, then, in later statements and so with
-- fresh snapshots (READ COMMITTED), the head, the checks and the inserts. It must be called in autocommit, so that
-- the lock is never held across a round trip to the client.
--
-- Winners get the positions head + 1, head + 2 ... in the order of the arrays, and all of a batch the same
-- recorded_at, which never decreases. conflicts lists the units that no longer follow on the log, duplicates those of
-- whose keys one is taken; neither leaves a trace.
--
-- A version alone does not say what an event was decided on: it may fit by accident, where another instance has
-- written as many events as the ones it was decided on, which lost, or where a failover has lost the past of a stream
-- and another took its place. The id of the event before does: what follows on a loser never fits.
create function append_events(
    unit_first   integer[],
    unit_events  integer[],
    streams      uuid[],
    versions     bigint[],
    follows      uuid[],
    event_ids    uuid[],
    types        text[],
    schemas      integer[],
    payloads     jsonb[],
    metadatas    jsonb[],
    heads        integer[],
    key_unit     integer[],
    keys         uuid[],
    fingerprints uuid[],
    key_first    integer[],
    key_events   integer[],
    out head        bigint,
    out recorded    timestamptz,
    out conflicts   integer[],
    out duplicates  integer[]
)
language plpgsql
volatile
set lock_timeout = '5s'
-- Planning each statement anew for the lengths of its arrays would take longer than running it. A plan is kept for as long
-- as its session, and so must not be one for the small tables that there may have been when it was made: by the indexes.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    next_position bigint;
    a integer;
    b integer;
begin
    -- The append lock: one batch at a time in this database, released at commit. Any number will do as its name.
    perform pg_advisory_xact_lock(7018230141);

    select e.position, greatest(e.recorded_at, clock_timestamp())
      into head, recorded
      from events e order by e.position desc limit 1;
    if head is null then
        head := 0;
        recorded := clock_timestamp();
    end if;

    -- The usual case: every unit follows on the log and no key is taken, and all goes in with one statement a table.
    -- That nothing has been written after the events followed on, and that no key is taken, is for the unique
    -- constraints to say: asking first would take as long again as inserting.
    if not exists (
            select from unnest(heads) as h(n)
             where not exists (select from events e where e.stream_id = streams[h.n]
                                  and e.version = versions[h.n] - 1 and e.event_id = follows[h.n]))
    then
        begin
            insert into idempotency_keys (key, fingerprint, first_position, event_count)
            select u.key, u.fingerprint, head + u.first, u.events
              from unnest(keys, fingerprints, key_first, key_events) as u(key, fingerprint, first, events);
            insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
            select head + u.n, u.stream, u.version, u.event_id, u.type, u.schema, u.payload, u.metadata, recorded
              from unnest(streams, versions, event_ids, types, schemas, payloads, metadatas)
                   with ordinality as u(stream, version, event_id, type, schema, payload, metadata, n);
            return;
        exception when unique_violation then
            null; -- both inserts are undone
        end;
    end if;

    -- Somebody else was first with a stream or a key: unit by unit, each on what the ones before it left.
    next_position := head + 1;
    for u in 1 .. cardinality(unit_first) loop
        a := unit_first[u];
        b := a + unit_events[u] - 1;
        if exists (select from unnest(key_unit, keys) as q(unit, key)
                     join idempotency_keys k on k.key = q.key where q.unit = u) then
            duplicates := duplicates || u;
            continue;
        end if;
        if exists (
            select from unnest(streams[a:b], versions[a:b], follows[a:b]) as w(stream, version, follows)
             where exists (select from events e where e.stream_id = w.stream and e.version = w.version)
                or w.version > 1
                   and not exists (select from unnest(streams[a:b], versions[a:b], event_ids[a:b]) as x(stream, version, id)
                                    where x.stream = w.stream and x.version = w.version - 1 and x.id = w.follows)
                   and not exists (select from events e where e.stream_id = w.stream
                                      and e.version = w.version - 1 and e.event_id = w.follows))
        then
            conflicts := conflicts || u;
            continue;
        end if;
        insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
        select next_position + w.n - 1, w.stream, w.version, w.event_id, w.type, w.schema, w.payload, w.metadata, recorded
          from unnest(streams[a:b], versions[a:b], event_ids[a:b], types[a:b], schemas[a:b], payloads[a:b], metadatas[a:b])
               with ordinality as w(stream, version, event_id, type, schema, payload, metadata, n);
        insert into idempotency_keys (key, fingerprint, first_position, event_count)
        select q.key, q.fingerprint, next_position + q.first - a, q.events
          from unnest(key_unit, keys, fingerprints, key_first, key_events) as q(unit, key, fingerprint, first, events)
         where q.unit = u;
        next_position := next_position + unit_events[u];
    end loop;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function append_events;
drop table idempotency_keys;
drop table events;
