package pgtest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// Failer is what Append needs of a testing.TB or a rapid.T.
type Failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Append appends events to the log, also while others append, and returns the position of the first and the time of all.
func Append(t Failer, store *eventstore.Store, events ...eventstore.NewEvent) (first int64, recordedAt time.Time) {
	t.Helper()
	ctx := context.Background()
	for {
		head, err := store.Last(ctx)
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		result, err := store.Append(ctx, head, &eventstore.Batch{Events: events})
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		if !result.Moved {
			return head.Position + 1, result.RecordedAt
		}
	}
}

// EventID returns the id that tests give to the event at a version of a stream.
func EventID(stream uuid.UUID, version int64) uuid.UUID {
	return uuid.NewSHA1(stream, fmt.Appendf(nil, "%d", version))
}
