-- The log in partitions by ranges of positions. DESIGN: docs/adr/0020-partitions.md.

-- Each statement is a transaction of its own, and has no effect if it is run again after an interruption. Appends go on while the
-- second one reads the whole table; the third takes its exclusive lock only for changes of the catalog.

-- +goose NO TRANSACTION
-- +goose Up
-- +goose StatementBegin
do $$
declare
    head bigint;
begin
    set local lock_timeout = '5s'; -- what waits for a lock on the log holds up all appends
    if (select relkind = 'p' from pg_class where oid = 'events'::regclass)
       or exists (select from pg_constraint where conrelid = 'events'::regclass and conname = 'events_bounds') then
        return;
    end if;
    select e.position into head from events e order by e.position desc limit 1;
    -- The table becomes the first partition. Its end leaves room for what is appended until then.
    execute format('alter table events add constraint events_bounds check (position >= 1 and position < %s) not valid',
                   case when head is null then 10000001 else (head / 10000000 + 2) * 10000000 + 1 end);
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- Thanks to this constraint, attaching the table does not read it.
do $$
begin
    if (select relkind <> 'p' from pg_class where oid = 'events'::regclass) then
        alter table events validate constraint events_bounds;
    end if;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
declare
    bound text;
begin
    set local lock_timeout = '5s';
    if (select relkind = 'p' from pg_class where oid = 'events'::regclass) then
        return;
    end if;
    select substring(pg_get_constraintdef(oid) from '< ''?([0-9]+)') into strict bound
      from pg_constraint where conrelid = 'events'::regclass and conname = 'events_bounds';
    alter table events rename to events_1;
    alter table events_1 rename constraint events_pkey to events_1_pkey;
    alter table events_1 rename constraint events_stream_version to events_1_stream_version;
    alter index events_transfer rename to events_1_transfer;
    alter index events_hold rename to events_1_hold;
    alter index events_reversal rename to events_1_reversal;
    comment on table events_1 is null;

    create table events (like events_1) partition by range (position);
    alter table events
        add constraint events_pkey primary key (position),
        add constraint events_counts_from_one check (position > 0 and version > 0);
    comment on table events is 'Append-only. Positions run without a gap, in commit order; written by append(), and as copies of another log by the owner of the table.';
    create index events_transfer on events ((payload ->> 'transfer_id')) where type = 'TransferSent';
    create index events_hold on events ((payload ->> 'hold_id'))
        where type in ('HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired');
    create index events_reversal on events ((payload ->> 'reversed_position')) where type in ('CreditReversed', 'DebitReversed');

    execute format('alter table events attach partition events_1 for values from (1) to (%s)', bound);
    alter table events_1 drop constraint events_bounds;
    -- Until the migration grants the rest, instances that run already can read.
    if exists (select from pg_roles where rolname = 'passbook_service') then
        grant select on events to passbook_service;
    end if;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
create or replace view log_partitions as
select c.relname as name, b[1]::bigint as first_position, b[2]::bigint - 1 as last_position
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
cross join lateral regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''?([0-9]+)''?\) TO \(''?([0-9]+)''?\)') as b
where i.inhparent = 'events'::regclass;
-- +goose StatementEnd

-- +goose StatementBegin
-- extend_log makes partitions of the given size until there is one that begins after the head of the log, and returns how many
-- positions after the head have a partition. It creates each partition as a separate empty table and attaches it, which blocks
-- neither reads nor appends. Each has an index of its own for (stream_id, version), because a unique index of the whole table would
-- have to include the position.
create or replace function extend_log(size bigint) returns bigint
language plpgsql
volatile
set lock_timeout = '5s'
as $$
declare
    place   text;
    name    text;
    head    bigint;
    newest  bigint; -- the first position of the last partition
    last    bigint; -- its last position
    other   text;
begin
    if size < 1 then
        raise exception 'the size of a partition must be at least 1' using errcode = 'invalid_parameter_value';
    end if;
    select coalesce(max(p.first_position), 0), coalesce(max(p.last_position), 0) into newest, last from log_partitions p;
    select coalesce((select e.position from events e order by e.position desc limit 1), 0) into head;
    if newest > head then
        return last - head;
    end if;
    -- One instance makes partitions at a time, and looks again once it may. The number is arbitrary.
    perform pg_advisory_xact_lock(7018230142);
    loop
        select coalesce(max(p.first_position), 0), coalesce(max(p.last_position), 0) into newest, last from log_partitions p;
        select coalesce((select e.position from events e order by e.position desc limit 1), 0) into head;
        exit when newest > head;
        select c.relnamespace::regnamespace::text, 'events_' || last + 1 into place, name from pg_class c where c.oid = 'events'::regclass;
        execute format('create table %s.%I (like %1$s.events including all)', place, name);
        execute format('alter table %s.%I add constraint %I unique (stream_id, version)', place, name, name || '_stream_version');
        -- Default privileges may have granted others to write to it. Rights on the log are those on the whole table.
        for other in
            select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
              from pg_class c cross join aclexplode(c.relacl) as a
             where c.oid = format('%s.%I', place, name)::regclass and a.grantee <> c.relowner
        loop
            execute format('revoke all on %s.%I from %s', place, name, other);
        end loop;
        execute format('alter table %s.events attach partition %1$s.%I for values from (%s) to (%s)', place, name, last + 1, last + 1 + size);
    end loop;
    return last - head;
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- append is as before, but reads only the partitions from head_position on to find the head of the log. If the log ends before
-- head_position, it finds none, and moved is true.
create or replace function append(
    head_position bigint,
    head_event    uuid,
    streams       uuid[],
    versions      bigint[],
    event_ids     uuid[],
    payloads      jsonb[],
    kinds         integer[],
    types         text[],
    schemas       integer[],
    metadata_of   integer[],
    metadatas     jsonb[],
    keys          uuid[],
    fingerprints  uuid[],
    key_first     integer[],
    key_events    integer[],
    refusals      bytea[],
    out moved     boolean,
    out recorded  timestamptz,
    out taken     uuid[]
)
language plpgsql
volatile
as $$
declare
    last_position bigint;
    last_event    uuid;
begin
    -- The append lock: one append at a time in this database, released at commit. The number is arbitrary.
    perform pg_advisory_xact_lock(7018230141);

    select e.position, e.event_id, greatest(e.recorded_at, clock_timestamp())
      into last_position, last_event, recorded
      from events e where e.position >= head_position order by e.position desc limit 1;
    if last_position is null then
        last_position := 0;
        recorded := clock_timestamp();
    end if;
    moved := last_position <> head_position or last_event is distinct from head_event;
    if moved then
        return;
    end if;

    if cardinality(keys) > 0 then
        select array_agg(k.key) into taken from idempotency_keys k where k.key = any (keys);
        if taken is not null then
            return;
        end if;
        insert into idempotency_keys (key, fingerprint, first_position, stored_at, event_count, refusal)
        select u.key, u.fingerprint, head_position + u.first, recorded, u.events, u.refusal
          from unnest(keys, fingerprints, key_first, key_events, refusals) as u(key, fingerprint, first, events, refusal);
    end if;

    insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
    select head_position + u.n, u.stream, u.version, u.event_id, types[u.kind], schemas[u.kind], u.payload,
           metadatas[u.metadata], recorded
      from unnest(streams, versions, event_ids, payloads, kinds, metadata_of)
           with ordinality as u(stream, version, event_id, payload, kind, metadata, n);
end
$$;
-- +goose StatementEnd

-- +goose StatementBegin
do $$
begin
    -- As the migration does again afterwards: until then, instances that run already append.
    execute format('alter function append security definer set search_path = pg_catalog, %I, pg_temp', current_schema());
    perform extend_log(10000000);
end
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
do $$
begin
    raise exception 'a log in partitions is not turned back into one table: restore a backup from before';
end
$$;
-- +goose StatementEnd
