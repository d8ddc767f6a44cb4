package relay

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// archivedLog is a log whose first events are in the archive.
type archivedLog struct{}

func (archivedLog) Status(context.Context, int64, uuid.UUID) (eventstore.Status, error) {
	return eventstore.Status{Head: eventstore.Head{Position: 900}, Contains: true}, nil
}

func (archivedLog) Select(context.Context, int64, int64, eventstore.Selection, int) ([]eventstore.Event, error) {
	return nil, &eventstore.ArchivedError{First: 500}
}

// TestAnArchivedLogHalts reads what a new stream needs: it is in the archive, which retries cannot change.
func TestAnArchivedLogHalts(t *testing.T) {
	t.Parallel()
	r := &Relay{Config: Config{Log: archivedLog{}, Stream: "PASSBOOK"}}
	_, err := r.read(t.Context(), eventstore.Head{Position: 7})
	halted, ok := errors.AsType[*HaltedError](err)
	if !ok || !strings.Contains(halted.Reason, "ends at position 7") || !strings.Contains(halted.Reason, "up to position 499 are in the archive") {
		t.Errorf("%v", err)
	}
}
