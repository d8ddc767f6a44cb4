package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	headSQL = `select position from events order by position desc limit 1`

	readAfterSQL = `select position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at
from events where position > $1 order by position limit $2`

	// One index range a stream, so that the cost grows with the events read and with nothing else.
	readStreamsSQL = `select e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.payload,
       e.metadata, e.recorded_at
from unnest($1::uuid[], $2::bigint[]) as s(id, after)
cross join lateral (select * from events e where e.stream_id = s.id and e.version > s.after order by e.version) as e`

	// The message makes the statement one that writes, so that its commit waits for a synchronous standby, and by the
	// order of the WAL for all that was committed before it: see LookupKeys.
	lookupKeysSQL = `select key, fingerprint, first_position, event_count, pg_logical_emit_message(true, 'passbook', '')
from idempotency_keys where key = any ($1)`
)

// Head answers the position of the last event in the log, 0 when it is empty.
func (s *Store) Head(ctx context.Context) (int64, error) {
	var head int64
	err := s.db.QueryRow(ctx, headSQL).Scan(&head)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("eventstore: head: %w", err)
	}
	return head, nil
}

// ReadAfter answers at most limit events that follow position after, in order. Who has seen an answer has seen
// every event up to its last, forever: no event ever appears at an earlier position later on.
func (s *Store) ReadAfter(ctx context.Context, after int64, limit int) ([]Event, error) {
	rows, _ := s.db.Query(ctx, readAfterSQL, after, limit)
	return collect("read after", rows)
}

// Cursor names a stream and the last version of it that is known already.
type Cursor struct {
	StreamID uuid.UUID
	After    int64
}

// ReadStreams calls each with all events of the streams after their cursors, each stream's in version order and the
// streams in the order given. A stream that does not exist adds nothing. It holds no more than one event in memory, so
// that a stream may be of any length. It ends with the first error of each.
func (s *Store) ReadStreams(ctx context.Context, cursors []Cursor, each func(Event) error) error {
	ids, after := make([][16]byte, len(cursors)), make([]int64, len(cursors))
	for i, c := range cursors {
		ids[i], after[i] = c.StreamID, c.After
	}
	rows, err := s.db.Query(ctx, readStreamsSQL, ids, after)
	if err != nil {
		return fmt.Errorf("eventstore: read streams: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return fmt.Errorf("eventstore: read streams: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("eventstore: read streams: %w", err)
	}
	return nil
}

// LookupKeys answers those of the idempotency keys that the log holds, once what they stand for is as durable as an append
// that was acknowledged. It need not be yet: when the wait for a synchronous standby is broken off (by the time limit of an
// append, whose outcome is then unknown), the commit is seen here although no standby has it, and would be lost with its
// primary. An answer given again on the strength of that would have been a lie.
func (s *Store) LookupKeys(ctx context.Context, hashes [][16]byte) ([]StoredKey, error) {
	rows, _ := s.db.Query(ctx, lookupKeysSQL, hashes)
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (StoredKey, error) {
		var k StoredKey
		return k, row.Scan(&k.Hash, &k.Fingerprint, &k.First, &k.Count, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("eventstore: look up keys: %w", s.suspect(err))
	}
	return keys, nil
}

func collect(op string, rows pgx.Rows) ([]Event, error) {
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("eventstore: %s: %w", op, err)
	}
	return events, nil
}

func scanEvent(row pgx.CollectableRow) (Event, error) {
	var e Event
	err := row.Scan(&e.Position, &e.StreamID, &e.Version, &e.EventID, &e.Type, &e.SchemaVersion, &e.Payload,
		&e.Metadata, &e.RecordedAt)
	e.RecordedAt = e.RecordedAt.UTC()
	return e, err //nolint:wrapcheck // the callers wrap it
}
