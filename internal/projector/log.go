package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// ErrGap says that the log does not go on where it should: it was damaged, or changed by hand.
var ErrGap = errors.New("the log has a gap")

// Log is what the engine reads. *eventstore.Store is one.
type Log interface {
	// Head returns the position of the last event, 0 for an empty log.
	Head(ctx context.Context) (int64, error)
	// ReadAfter returns at most limit events after a position, in order and without a gap.
	ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error)
	// Select returns, in order, at most limit of the selected events after a position and up to another.
	Select(ctx context.Context, after, upTo int64, sel eventstore.Selection, limit int) ([]eventstore.Event, error)
}

// EventError says at which event a projection stopped, and why.
type EventError struct {
	Position int64
	Err      error

	// event is set when a handler could not apply the event, so that its stream can be parked. Nothing gets past an
	// event that is missing or that the code does not know.
	event *eventstore.Event
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event at position %d: %v", e.Position, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }

// contiguous counts the events that follow on a position without a gap; the error says where there is one.
func contiguous(events []eventstore.Event, after int64) (int, error) {
	for i := range events {
		if want := after + int64(i) + 1; events[i].Position != want {
			return i, &EventError{Position: want, Err: fmt.Errorf("%w: position %d follows on %d", ErrGap, events[i].Position, want-1)}
		}
	}
	return len(events), nil
}

// ErrLogTruncated says that the log does not hold any more what was applied of it. It lost its end, in a failover to a server
// that had not received it or when it was restored, and what is appended from there on is something else.
var ErrLogTruncated = errors.New("the log was truncated")

// Checkpoint is a position of the log with the event at it. As long as the log holds that event, all that was read up to there is
// as it was read, since a log loses nothing but its end. The zero checkpoint is before the first event.
type Checkpoint struct {
	Position int64
	EventID  uuid.UUID
}

// id is the event as a database keeps it.
func (c Checkpoint) id() *uuid.UUID {
	if c.Position == 0 {
		return nil
	}
	return &c.EventID
}

// checkpointOf is the inverse of id.
func checkpointOf(position int64, event *uuid.UUID) Checkpoint {
	if event == nil {
		return Checkpoint{Position: position}
	}
	return Checkpoint{position, *event}
}

// readAfter reads at most limit events that follow on a checkpoint, which the log is seen to hold in the same statement. Every read
// that goes on from an earlier one goes through here or does both steps. The error is ErrLogTruncated when the log does not hold it.
func readAfter(ctx context.Context, log Log, from Checkpoint, limit int) ([]eventstore.Event, error) {
	events, err := readIncluding(ctx, log, from.Position, limit)
	if err != nil {
		return nil, err
	}
	return from.eventsAfter(events)
}

// readIncluding reads the event at a position, if it is one, and at most limit events after it.
func readIncluding(ctx context.Context, log Log, position int64, limit int) ([]eventstore.Event, error) {
	if position == 0 {
		return log.ReadAfter(ctx, 0, limit)
	}
	return log.ReadAfter(ctx, position-1, limit+1)
}

// eventsAfter returns what follows on the checkpoint among events that were read from its position on.
func (c Checkpoint) eventsAfter(events []eventstore.Event) ([]eventstore.Event, error) {
	switch {
	case c.Position == 0:
		return events, nil
	case len(events) == 0 || events[0].Position != c.Position || events[0].EventID != c.EventID:
		return nil, &EventError{Position: c.Position, Err: fmt.Errorf("%w: the event %s, applied at position %d, is not in it any more",
			ErrLogTruncated, c.EventID, c.Position)}
	}
	return events[1:], nil
}
