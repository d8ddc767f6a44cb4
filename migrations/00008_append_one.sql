-- The append of a command that is alone: one event, and nobody else has appended since this instance did.
-- DESIGN: docs/adr/0014-alone.md.

-- +goose Up
-- +goose StatementBegin
do $migration$
begin
    execute replace($create$

-- append_one appends one event right behind the mark, with its key if it has one, and answers when it was recorded. Null says
-- that it has done nothing: the mark is not the head of the log, somebody else has the append lock, or the key is taken.
-- append_batch and append_events then say which, and wait for the lock.
--
-- It is one statement, and its snapshot may be older than the lock. If somebody has appended in between, the position is
-- taken: that is the error unique_violation, and nothing has been done either.
--
-- To set and reset parameters would take a tenth of the whole. So there is no search_path, and all is named in full, operators
-- too: as in append_batch, no object of the caller's may be taken for one of the owner's. And it is not to be called while the
-- log is so short that the plan, which is kept, would not go by the index.
create function append_one(
    mark        uuid,
    stream      uuid,
    version     bigint,
    event_id    uuid,
    type        text,
    schema      integer,
    payload     jsonb,
    metadata    jsonb,
    key         uuid,
    fingerprint uuid,
    out recorded timestamptz
)
language plpgsql
volatile
security definer
as $$
#variable_conflict use_variable
begin
    if key is null then
        insert into LOG.events as e (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
        select head.position operator(pg_catalog.+) 1, stream, version, event_id, type, schema, payload, metadata,
               greatest(head.recorded_at, pg_catalog.clock_timestamp())
          from (select l.position, l.event_id, l.recorded_at from LOG.events l order by l.position desc limit 1) as head
         where head.event_id operator(pg_catalog.=) mark and pg_catalog.pg_try_advisory_xact_lock(7018230141)
        returning e.recorded_at into recorded;
        return;
    end if;

    with head as (
        select h.position operator(pg_catalog.+) 1 as next, greatest(h.recorded_at, pg_catalog.clock_timestamp()) as recorded_at
          from (select l.position, l.event_id, l.recorded_at from LOG.events l order by l.position desc limit 1) as h
         where h.event_id operator(pg_catalog.=) mark and pg_catalog.pg_try_advisory_xact_lock(7018230141)
    ), new_key as (
        insert into LOG.idempotency_keys as k (key, fingerprint, first_position, event_count)
        select key, fingerprint, head.next, 1 from head
        on conflict do nothing
        returning k.first_position
    )
    insert into LOG.events as e (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
    select head.next, stream, version, event_id, type, schema, payload, metadata, head.recorded_at
      from head cross join new_key
    returning e.recorded_at into recorded;
end
$$;

$create$, 'LOG.', quote_ident(current_schema()) || '.');
    revoke execute on function append_one from public;
end
$migration$;
-- +goose StatementEnd

-- +goose Down
drop function append_one;
