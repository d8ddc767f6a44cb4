-- The usual case of an append, which is nearly every one, in fewer statements than append_events takes for it.
-- DESIGN: docs/adr/0013-marks.md.

-- +goose Up
-- +goose StatementBegin
-- append_batch appends a whole batch of events, or nothing: then head is null, and append_events says of each unit why.
-- What is decided by who wins a stream or a key is left to the unique constraints, which look at what is committed.
--
-- The events were decided on the log up to the marks, events that it held; lost says that one of them is gone. A log
-- loses nothing but its end (in a failover), so while it holds an event it holds the past of that event. One look, mostly
-- at the head that has to be read anyway, so stands for looking up the event before each of those that are appended.
--
-- What many events have in common comes once: kinds and metadata_of name, for each event, its entry in types and schemas
-- and its entry in metadatas (from 1). Reading JSON is a fifth of what an append costs the database.
--
-- The lock comes first, then, in later statements and so with fresh snapshots (READ COMMITTED), the head, the marks and
-- the inserts. It must be called in autocommit, so that the lock is never held across a round trip to the client.
create function append_batch(
    mark_positions bigint[],
    marks          uuid[],
    streams        uuid[],
    versions       bigint[],
    event_ids      uuid[],
    payloads       jsonb[],
    kinds          integer[],
    types          text[],
    schemas        integer[],
    metadata_of    integer[],
    metadatas      jsonb[],
    keys           uuid[],
    fingerprints   uuid[],
    key_first      integer[],
    key_events     integer[],
    out head       bigint,
    out recorded   timestamptz,
    out lost       boolean
)
language plpgsql
volatile
set lock_timeout = '5s'
-- As for append_events: planned once in a session, and by the indexes.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    last_event uuid;
begin
    -- The append lock, which is that of append_events.
    perform pg_advisory_xact_lock(7018230141);

    select e.position, e.event_id, greatest(e.recorded_at, clock_timestamp())
      into head, last_event, recorded
      from events e order by e.position desc limit 1;
    if head is null then
        head := 0;
        recorded := clock_timestamp();
    end if;

    lost := false;
    if cardinality(marks) > 1 or marks[1] is distinct from last_event then
        lost := exists (select from unnest(mark_positions, marks) as m(position, event_id)
                         where not exists (select from events e where e.position = m.position and e.event_id = m.event_id));
        if lost then
            head := null;
            return;
        end if;
    end if;

    begin
        if cardinality(keys) > 0 then
            insert into idempotency_keys (key, fingerprint, first_position, event_count)
            select u.key, u.fingerprint, head + u.first, u.events
              from unnest(keys, fingerprints, key_first, key_events) as u(key, fingerprint, first, events);
        end if;
        insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
        select head + u.n, u.stream, u.version, u.event_id, types[u.kind], schemas[u.kind], u.payload, metadatas[u.metadata],
               recorded
          from unnest(streams, versions, event_ids, payloads, kinds, metadata_of)
               with ordinality as u(stream, version, event_id, payload, kind, metadata, n);
    exception when unique_violation then
        head := null; -- both inserts are undone
    end;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function append_batch;
