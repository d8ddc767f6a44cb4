// Package copylog writes events that another log has recorded, or that were generated, into a log. Unlike the SQL function append,
// which assigns positions and times, it keeps those of the events. Package eventstore reads what it writes.
package copylog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
)

const (
	lockTimeoutSQL = `set local lock_timeout = '5s'`

	// The append lock, as in the SQL function append: other writers wait for it, and so do reads as of a time.
	lockSQL = `select pg_advisory_xact_lock(7018230141)`

	headSQL = `select position, event_id from events order by position desc limit 1`
)

// columns are the columns of the table events.
var columns = []string{"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at"}

// Insert stores events after head, all or none, in one commit, and returns the log's new head. If head is not the log's head, it
// stores nothing and returns the log's. The zero Head is that of an empty log. The role of the pool must be allowed to insert into
// the table, as its owner is. Insert does not check the events. The constraints of the table do, except that they allow gaps.
func Insert(ctx context.Context, pool *pgxpool.Pool, head eventstore.Head, events []eventstore.Event) (eventstore.Head, error) {
	var found eventstore.Head
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var steps pgx.Batch
		steps.Queue(lockTimeoutSQL)
		steps.Queue(lockSQL)
		steps.Queue(headSQL).QueryRow(func(row pgx.Row) error {
			if err := row.Scan(&found.Position, &found.EventID); !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			return nil
		})
		if err := tx.SendBatch(ctx, &steps).Close(); err != nil || found != head || len(events) == 0 {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"events"}, columns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			return []any{
				e.Position, [16]byte(e.StreamID), e.Version, [16]byte(e.EventID), e.Type, int32(e.SchemaVersion), //nolint:gosec // a column of 32 bits
				e.Payload, e.Metadata, e.RecordedAt,
			}, nil
		}))
		return err
	})
	if err != nil {
		return found, fmt.Errorf("copylog: %w", err)
	}
	if found != head || len(events) == 0 {
		return found, nil
	}
	last := &events[len(events)-1]
	return eventstore.Head{Position: last.Position, EventID: last.EventID}, nil
}
