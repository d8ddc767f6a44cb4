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
-- with the version it is to have. A unit may carry idempotency keys: key_unit names the unit a key belongs to, and
-- key_first and key_events the events it answers for.
--
-- The order of the statements is what makes the log gapless: the lock first, then, in later statements and so with
-- fresh snapshots (READ COMMITTED), the head, the checks and the inserts. It must be called in autocommit, so that
-- the lock is never held across a round trip to the client.
--
-- Winners get the positions head + 1, head + 2 ... in the order of the arrays, and all of a batch the same
-- recorded_at, which never decreases. conflicts lists the units whose versions no longer follow on the log,
-- duplicates those of whose keys one is taken; neither leaves a trace. A unit was decided on what the units before it
-- on its streams would leave, so that one which follows on a loser is a loser too, even if its versions fit the log:
-- as they do when another instance wrote as many events as the loser would have.
create function append_events(
    unit_first   integer[],
    unit_events  integer[],
    streams      uuid[],
    versions     bigint[],
    event_ids    uuid[],
    types        text[],
    schemas      integer[],
    payloads     jsonb[],
    metadatas    jsonb[],
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
-- Planning each statement anew for the lengths of its arrays would take longer than running it.
set plan_cache_mode = force_generic_plan
as $$
declare
    next_position bigint;
    a integer;
    b integer;
    lost uuid[] := '{}';
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

    -- The usual case: no unit conflicts and no key is taken, and everything goes in with one statement a table.
    if not exists (
            select from (select s, min(v) as lo, max(v) as hi, count(*) as n
                           from unnest(streams, versions) as u(s, v) group by s) as g
             where g.hi - g.lo + 1 <> g.n
                or g.lo <> 1 + coalesce((select e.version from events e where e.stream_id = g.s
                                          order by e.version desc limit 1), 0))
       and not exists (select from idempotency_keys k where k.key = any (keys))
    then
        insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
        select head + u.n, u.stream, u.version, u.event_id, u.type, u.schema, u.payload, u.metadata, recorded
          from unnest(streams, versions, event_ids, types, schemas, payloads, metadatas)
               with ordinality as u(stream, version, event_id, type, schema, payload, metadata, n);
        insert into idempotency_keys (key, fingerprint, first_position, event_count)
        select u.key, u.fingerprint, head + u.first, u.events
          from unnest(keys, fingerprints, key_first, key_events) as u(key, fingerprint, first, events);
        return;
    end if;

    -- Somebody else was first with a stream or a key: unit by unit, each on what the ones before it left.
    next_position := head + 1;
    for u in 1 .. cardinality(unit_first) loop
        a := unit_first[u];
        b := a + unit_events[u] - 1;
        if exists (select from unnest(key_unit, keys) as q(unit, key)
                     join idempotency_keys k on k.key = q.key where q.unit = u) then
            duplicates := duplicates || u;
            lost := lost || streams[a:b];
            continue;
        end if;
        if streams[a:b] && lost or exists (
            select from (select s, min(v) as lo, max(v) as hi, count(*) as n
                           from unnest(streams[a:b], versions[a:b]) as w(s, v) group by s) as g
             where g.hi - g.lo + 1 <> g.n
                or g.lo <> 1 + coalesce((select e.version from events e where e.stream_id = g.s
                                          order by e.version desc limit 1), 0))
        then
            conflicts := conflicts || u;
            lost := lost || streams[a:b];
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
