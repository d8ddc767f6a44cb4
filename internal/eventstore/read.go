package eventstore

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	headSQL = `select position, event_id from events order by position desc limit 1`

	// Metadata is left out because reading it takes as long as reading the payload.
	readAfterSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where (select whole_after($1)) and position > $1 order by position limit $2`

	// Reads index ranges of each stream, so that the cost depends only on the events read. Only a stream that has been in the archive may
	// lack a recent snapshot.
	readStreamsSQL = `with streams as materialized (
    select id, last, coalesce(
        (select max(e.version) from events e where e.stream_id = id and e.version > last - $4 and e.version <= last and e.metadata @> $3),
        case when last > $4 then (select max(e.version) from events e where e.stream_id = id and e.version <= last and e.metadata @> $3) end,
        1) as first
    from unnest($1::uuid[]) as id cross join lateral (
        select e.version as last from events e where e.stream_id = id and e.position <= $2 order by e.version desc limit 1) as l
)
select e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.payload, e.recorded_at,
       case when e.version = s.first then e.metadata end
from streams s cross join lateral (
    select * from events e where e.stream_id = s.id and e.version >= s.first and e.version <= s.last order by e.version) as e`

	selectSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at, metadata
from events where (select whole_after($1)) and position > $1 and position <= $2 and (type = any ($3) or $3 is null) order by position limit $4`

	beginSQL = `select first_position from log_begin`

	// The versions of a stream grow with its positions, so a binary search finds where to begin, however long the stream is:
	// the greatest low is the last version that is not after the position. An archived version counts as not after it. Adding 0 keeps PostgreSQL from using the primary key
	// for the bounds on the position: a generic plan would read half of it.
	selectStreamSQL = `with recursive search (low, high) as (
    select 0::bigint, 1 + coalesce((select version from events where stream_id = $1 order by version desc limit 1), 0)
    union all
    select case when m.past then s.low else s.middle end, case when m.past then s.middle else s.high end
    from (select low, high, low + (high - low) / 2 as middle from search where high - low > 1) as s
    cross join lateral (
        select coalesce((select e.position > $2 from events e where e.stream_id = $1 and e.version = s.middle), false) as past) as m
)
select position, stream_id, version, event_id, type, schema_version, payload, recorded_at, metadata
from events
where (select whole_after($2)) and stream_id = $1 and version > (select max(low) from search) and position + 0 > $2 and position + 0 <= $3
  and (type = any ($4) or $4 is null)
order by version limit $5`

	// Each part has an index; the parameters are cast once.
	readNamedSQL = `with named as (
    select position from events where type = 'TransferSent' and payload ->> 'transfer_id' = any ($1::uuid[]::text[])
    union
    select position from events where type in ('HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired')
       and payload ->> 'hold_id' = any ($2::uuid[]::text[])
    union
    select position from events where type in ('CreditReversed', 'DebitReversed')
       and payload ->> 'reversed_position' = any ($3::bigint[]::text[])
    union
    select p from unnest($3) as p where p >= (select first_position from log_begin)
)
select e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.payload, e.recorded_at
from named cross join lateral (select * from events e where e.position = named.position and e.position <= $4) as e
order by e.position`

	statusSQL = `select coalesce(e.position, 0), coalesce(e.event_id, '00000000-0000-0000-0000-000000000000'),
       $1::bigint < (select first_position from log_begin) or exists (select from events where position = $1 and (event_id = $2 or $2 is null)), pg_is_in_recovery()
from (select) as one left join lateral (select position, event_id from events order by position desc limit 1) as e on true`
)

// reader reads the log, in autocommit or in the transaction of a Locked.
type reader struct {
	db   querier
	pool *pgxpool.Pool // the pool of db
	// codec is nil if events are as the log stores them.
	codec Codec
}

// Last returns the head of the log.
func (r reader) Last(ctx context.Context) (Head, error) {
	var head Head
	err := r.db.QueryRow(ctx, headSQL).Scan(&head.Position, &head.EventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, nil
	}
	return head, r.wrap("head", err)
}

// Begin returns the first position from which on the log has every event: more than 1 if earlier ones are only in the archive.
func (r reader) Begin(ctx context.Context) (first int64, err error) {
	err = r.db.QueryRow(ctx, beginSQL).Scan(&first)
	return first, r.wrap("begin", err)
}

// Head returns the position of the head of the log, or 0 if it is empty.
func (r reader) Head(ctx context.Context) (int64, error) {
	head, err := r.Last(ctx)
	return head.Position, err
}

// Status is the state of the log at one moment.
type Status struct {
	Head Head
	// Contains is set if the log contains the event that was asked for, or may have it in the archive. If a log that contained it no
	// longer does, it has lost its tail; if it still does, nothing up to the event has changed.
	Contains bool
	// Standby is set if the database is a standby, which may be behind its primary.
	Standby bool
}

// Status returns the state of the log, and whether it contains the event at a position (any event if the id is zero). It always
// contains position 0.
func (s *Store) Status(ctx context.Context, position int64, event uuid.UUID) (Status, error) {
	var status Status
	err := s.db.QueryRow(ctx, statusSQL, position, uuid.NullUUID{UUID: event, Valid: event != uuid.Nil}).
		Scan(&status.Head.Position, &status.Head.EventID, &status.Contains, &status.Standby)
	return status, s.wrap("status", err)
}

// ReadAfter returns at most limit events after a position, in order and without metadata, or an *ArchivedError.
func (r reader) ReadAfter(ctx context.Context, after int64, limit int) ([]Event, error) {
	return r.events(ctx, limit, readAfterSQL, after, limit)
}

// Selection selects events of the log. The zero value selects all.
type Selection struct {
	// StreamID is the stream to read; the zero UUID means all.
	StreamID uuid.UUID
	// Types are the event types to read; nil means all.
	Types []string
}

// Select returns, in order and with their metadata, at most limit of the selected events after position after and up to
// position upTo, or an *ArchivedError. A selection by type reads every event of the range, one by stream only the stream's.
func (r reader) Select(ctx context.Context, after, upTo int64, sel Selection, limit int) ([]Event, error) {
	if sel.StreamID != uuid.Nil {
		return r.events(ctx, limit, selectStreamSQL, sel.StreamID, after, upTo, sel.Types, limit)
	}
	return r.events(ctx, limit, selectSQL, after, upTo, sel.Types, limit)
}

// Named lists what ReadNamed looks for: ids of transfers and of holds, and positions.
type Named struct {
	Transfers, Holds [][16]byte
	Positions        []int64
}

// ReadNamed calls each, in order, with the events up to position upTo that are at the positions or reverse those, belong to the
// holds, or sent the transfers. It finds no event at a position before Begin, where the log may lack what reversed it. The event,
// without metadata, is valid until each returns. If n is empty it reads nothing.
func (r reader) ReadNamed(ctx context.Context, n Named, upTo int64, each func(*Event) error) error {
	if len(n.Transfers)+len(n.Holds)+len(n.Positions) == 0 {
		return nil
	}
	rows, _ := r.db.Query(ctx, readNamedSQL, n.Transfers, n.Holds, n.Positions, upTo) // an error is in rows too
	return r.wrap("read named events", r.eachDecoded(ctx, rows, each))
}

// SnapshotEvery is the maximum number of events from one with a snapshot in its metadata to the stream's next such event.
const SnapshotEvery = 100

// ReadStreams calls each with the events of the streams up to position upTo. A stream is read from its last event whose metadata
// contains the JSON object snapshot, or from its first if none does. Only the first event read of a
// stream has its metadata. Each stream's events come in version order, the streams in the given order; one that does not exist
// is skipped. The event is valid until each returns: only a few are in memory at a time, so a stream may be of any length.
// ReadStreams stops at the first error that each returns.
func (r reader) ReadStreams(ctx context.Context, streams [][16]byte, upTo int64, snapshot string, each func(*Event) error) error {
	rows, _ := r.db.Query(ctx, readStreamsSQL, streams, upTo, snapshot, SnapshotEvery) // an error is in rows too
	return r.wrap("read streams", r.eachDecoded(ctx, rows, each))
}
