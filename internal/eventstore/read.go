package eventstore

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	lastSQL = `select position, event_id from events order by position desc limit 1`

	readAfterSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at, metadata
from events where position > $1 order by position limit $2`

	// tailSQL leaves out the metadata, which takes as long to read as the payload and is wanted by few.
	tailSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where position > $1 order by position limit $2`

	// Index ranges of each stream, so that the cost grows with the events read and with nothing else.
	readStreamsSQL = `with streams as materialized (
    select id, last, coalesce((select max(e.version) from events e
                               where e.stream_id = id and e.version > last - $4 and e.version <= last and e.metadata @> $3), 1) as first
    from unnest($1::uuid[]) as id
    cross join lateral (
        select e.version as last from events e where e.stream_id = id and e.position <= $2 order by e.version desc limit 1) as l
)
select e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.payload, e.recorded_at,
       case when e.version = s.first then e.metadata end
from streams s
cross join lateral (
    select * from events e where e.stream_id = s.id and e.version >= s.first and e.version <= s.last order by e.version) as e`

	readAtSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where position = any ($1)`

	// The message makes the statement one that writes, so that its commit waits for a synchronous standby, and by the
	// order of the WAL for all that was committed before it: see LookupKeys.
	lookupKeysSQL = `select key, fingerprint, first_position, event_count, refusal, pg_logical_emit_message(true, 'passbook', '')
from idempotency_keys where key = any ($1)`
)

// reader reads the log, in autocommit or in the transaction of Locked.
type reader struct {
	db   querier
	pool *pgxpool.Pool // that db is of
}

// Last returns the head of the log.
func (r reader) Last(ctx context.Context) (Head, error) {
	var head Head
	err := r.db.QueryRow(ctx, lastSQL).Scan(&head.Position, &head.EventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, nil
	}
	return head, r.wrap("head", err)
}

// Head returns the position of the last event in the log, 0 when it is empty.
func (r reader) Head(ctx context.Context) (int64, error) {
	head, err := r.Last(ctx)
	return head.Position, err
}

// ReadAfter returns at most limit events that follow position after, in order.
func (r reader) ReadAfter(ctx context.Context, after int64, limit int) ([]Event, error) {
	return r.events(ctx, limit, readAfterSQL, after, limit)
}

// ReadFrom returns at most limit events from that of the head on, in order and without metadata. The first is the event at
// the head's position, which is another if the log has lost the head's; there is none if the log has become shorter. From the
// zero Head on it is all events.
func (r reader) ReadFrom(ctx context.Context, head Head, limit int) ([]Event, error) {
	return r.events(ctx, limit, tailSQL, head.Position-1, limit)
}

// SnapshotEvery is how many events a stream has at most from one with a snapshot in its metadata to the next.
const SnapshotEvery = 100

// ReadStreams calls each with the events of the streams up to position upTo: from the last one of a stream whose metadata
// contain the JSON object snapshot, if it is among the last SnapshotEvery, or from the first. Only the first event of a stream that is read has its metadata. Each
// stream's events come in version order, and the streams in the order given; one that does not exist adds nothing. No more than
// one event is held in memory, so a stream may be of any length. ReadStreams stops at the first error of each.
func (r reader) ReadStreams(ctx context.Context, streams []uuid.UUID, upTo int64, snapshot string, each func(*Event) error) error {
	ids := make([][16]byte, len(streams))
	for i, id := range streams {
		ids[i] = id
	}
	rows, _ := r.db.Query(ctx, readStreamsSQL, ids, upTo, snapshot, SnapshotEvery) // an error is in rows too
	defer rows.Close()
	types := make(map[string]string)
	for rows.Next() {
		var e Event
		if err := e.read(rows.RawValues(), new(arena), types); err != nil {
			return err
		}
		if err := each(&e); err != nil {
			return err
		}
	}
	return r.wrap("read streams", rows.Err())
}

// LookupKeys returns those of the idempotency keys that the log holds, once what they stand for is as durable as an append
// that was acknowledged. It need not be yet: when the wait for a synchronous standby is broken off (by the time limit of an
// append, whose outcome is then unknown), the commit is seen here although no standby has it, and would be lost with its
// primary. An answer given again on the strength of that would have been a lie.
//
// Each comes with the events that it answers for, as far as the log holds them.
func (s *Store) LookupKeys(ctx context.Context, hashes [][16]byte) ([]StoredKey, error) {
	var positions []int64
	rows, _ := s.db.Query(ctx, lookupKeysSQL, hashes)
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k StoredKey, err error) {
		err = row.Scan(&k.Hash, &k.Fingerprint, &k.First, &k.Count, &k.Refusal, nil)
		for i := range int64(k.Count) {
			positions = append(positions, k.First+i)
		}
		return k, err
	})
	if err != nil || len(positions) == 0 {
		return keys, s.wrap("look up keys", err)
	}
	events, err := s.events(ctx, len(positions), readAtSQL, positions)
	at := make(map[int64]Event, len(events))
	for _, e := range events {
		at[e.Position] = e
	}
	for i := range keys {
		for position := keys[i].First; position < keys[i].First+int64(keys[i].Count); position++ {
			if e, ok := at[position]; ok {
				keys[i].Events = append(keys[i].Events, e)
			}
		}
	}
	return keys, err
}
