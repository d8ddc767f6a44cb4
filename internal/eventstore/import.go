package eventstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrNotEmpty means that there are events in the log already.
var ErrNotEmpty = errors.New("the log is not empty")

var importedColumns = []string{
	"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at",
}

// Import writes a history into an empty log, whole or not at all, with its own positions and times. It needs a role that may
// insert events, as the owner of the table may and the service's role may not. It fails with ErrNotEmpty if there are events, and
// if those given are not a log: positions from 1 without a gap, times that never decrease, versions that follow each other.
func (s *Store) Import(ctx context.Context, events []Event) error {
	if err := checkHistory(events); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL[len(lockSQL)-1]); err != nil {
			return err
		}
		var empty bool
		if err := tx.QueryRow(ctx, `select not exists (select from events)`).Scan(&empty); err != nil {
			return err
		}
		if !empty {
			return ErrNotEmpty
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"events"}, importedColumns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			return []any{e.Position, e.StreamID, e.Version, e.EventID, e.Type, e.SchemaVersion, e.Payload, e.Metadata, e.RecordedAt}, nil
		}))
		return err
	})
	return s.wrap("import", err)
}

// checkHistory returns an error if events are not a whole log.
func checkHistory(events []Event) error {
	versions := make(map[[16]byte]int64)
	for i := range events {
		e := &events[i]
		versions[e.StreamID]++
		switch {
		case e.Position != int64(i)+1:
			return fmt.Errorf("eventstore: import: position %d is where %d should be", e.Position, i+1)
		case i > 0 && e.RecordedAt.Before(events[i-1].RecordedAt):
			return fmt.Errorf("eventstore: import: position %d was recorded before the one before it", e.Position)
		case e.Version != versions[e.StreamID]:
			return fmt.Errorf("eventstore: import: position %d has version %d, want %d", e.Position, e.Version, versions[e.StreamID])
		}
	}
	return nil
}
