-- The event log, the function that appends to it, and the idempotency keys.
-- DESIGN: docs/adr/0015-decided-on-the-head.md.

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
comment on table events is 'Append-only. Positions are 1..N without a gap, in commit order; written by append(), and as copies of another log by the owner of the table.';

-- Find transfers and holds by their ids, and the reversals of a movement. They are not unique: the write side checks what they
-- find as of the head of the log.
create index events_transfer on events ((payload ->> 'transfer_id')) where type = 'TransferSent';
create index events_hold on events ((payload ->> 'hold_id'))
    where type in ('HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired');
create index events_reversal on events ((payload ->> 'reversed_position')) where type in ('CreditReversed', 'DebitReversed');

-- One row for each idempotency key of a command that has succeeded or that the rules have refused. The response to a success is
-- not stored: it is rendered again from the events first_position .. first_position + event_count - 1, which never change. A
-- refusal has no events, so its response is stored.
create table idempotency_keys (
    key            uuid        not null,
    fingerprint    uuid        not null,
    first_position bigint      not null,
    stored_at      timestamptz not null,
    event_count    integer     not null,
    refusal        bytea,
    constraint idempotency_keys_pkey primary key (key),
    constraint idempotency_keys_answer check ((refusal is null) = (event_count > 0))
);
-- Keys are stored in order of time, so that a block-range index is enough to find the expired ones.
create index idempotency_keys_stored_at on idempotency_keys using brin (stored_at) with (pages_per_range = 16);

-- +goose StatementBegin
-- append appends a batch that was decided on the head of the log (the position and id of its last event; 0 and null when it is
-- empty). If the log has another head, nothing is appended and moved is true. If some of the keys are stored already, nothing is
-- appended and taken lists them. Otherwise all events are appended, from position head_position + 1 on, and recorded is their
-- common time, which never decreases.
--
-- The lock comes first; the later statements have fresh snapshots (READ COMMITTED) and so see every earlier append. In
-- autocommit the lock is never held across a round trip to the client.
--
-- What events share is passed once: kinds and metadata_of have, for each event, an index (from 1) into types and schemas, and
-- into metadatas. A key covers key_events events from the key_first-th event of the batch on (from 1); a key with a refusal
-- covers none.
create function append(
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
      from events e order by e.position desc limit 1;
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
-- position_at is the position of the last event recorded at or before a moment, 0 when there is none. recorded_at never
-- decreases as positions grow, so that a binary search over the primary key finds it without an index of its own.
create function position_at(moment timestamptz) returns bigint
language plpgsql
stable
as $$
declare
    low bigint := 0; -- recorded at or before the moment, or the start of the log
    high bigint := 1 + coalesce((select position from events order by position desc limit 1), 0); -- after it, or the end
    middle bigint;
begin
    while high - low > 1 loop
        middle := low + (high - low) / 2;
        if (select recorded_at from events where position = middle) <= moment then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return low;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function position_at;
drop function append;
drop table idempotency_keys;
drop table events;
