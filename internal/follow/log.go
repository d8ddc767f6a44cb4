package follow

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/eventstore"
)

// A follower's log is written here and nowhere else, with the times of the primary, which the function append would not take.
// Package eventstore reads it.
const (
	lockTimeoutSQL = `set local lock_timeout = '5s'`

	// The append lock, as in the function append: readers of the past wait for it, and so do other instances.
	lockSQL = `select pg_advisory_xact_lock(7018230141)`

	headSQL = `select position, event_id from events order by position desc limit 1`
)

// columns are those of events.
var columns = []string{"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at"}

// insert stores the events if they follow the log's head, all or none, in one commit. Otherwise it returns the log's head, which
// another instance has moved.
func (f *Follower) insert(ctx context.Context, head eventstore.Head, events []eventstore.Event) (found eventstore.Head, err error) {
	tx, err := f.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return found, fmt.Errorf("follow: store events: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var steps pgx.Batch
	steps.Queue(lockTimeoutSQL)
	steps.Queue(lockSQL)
	steps.Queue(headSQL).QueryRow(func(row pgx.Row) error {
		if err := row.Scan(&found.Position, &found.EventID); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	})
	if err := tx.SendBatch(ctx, &steps).Close(); err != nil {
		return found, fmt.Errorf("follow: store events: %w", err)
	}
	if found != head {
		return found, nil
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"events"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		return []any{
			e.Position, [16]byte(e.StreamID), e.Version, [16]byte(e.EventID), e.Type, int32(e.SchemaVersion), //nolint:gosec // a column of 32 bits
			e.Payload, e.Metadata, e.RecordedAt,
		}, nil
	}))
	if err == nil {
		err = tx.Commit(ctx)
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code {
		case "23505", "23514": // a unique constraint, a check
			return found, &HaltedError{fmt.Sprintf("the events after position %d do not follow on this log (%v): %s", head.Position, err, makeAnew)}
		case "42501": // insufficient privilege
			return found, &HaltedError{"the database's role may not write the log: a follower needs the role that owns its tables"}
		}
	}
	if err != nil {
		return found, fmt.Errorf("follow: store events: %w", err)
	}
	last := &events[len(events)-1]
	return eventstore.Head{Position: last.Position, EventID: last.EventID}, nil
}
