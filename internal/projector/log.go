package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// ErrGap means that the log lacks a position: it was damaged, or changed by hand.
var ErrGap = errors.New("the log has a gap")

// Log is the log that the engine reads. *eventstore.Store implements it.
type Log interface {
	// Head returns the position of the last event, 0 for an empty log.
	Head(ctx context.Context) (int64, error)
	// Begin returns the first position from which on the log has every event; earlier ones are in the archive.
	Begin(ctx context.Context) (int64, error)
	// ReadAfter returns at most limit events after a position, in order and without a gap. The error is an
	// *ArchivedError if some of them are in the archive.
	ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error)
	// Select returns, in order, at most limit of the selected events after a position and up to another.
	Select(ctx context.Context, after, upTo int64, sel eventstore.Selection, limit int) ([]eventstore.Event, error)
}

// EventError is an error with the position of the event at which a projection stopped.
type EventError struct {
	Position int64
	Err      error

	// event is set if a handler could not apply the event: its stream can then be parked. It is nil for an event that is missing
	// or unknown to the code, which halts the projection.
	event *eventstore.Event
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event at position %d: %v", e.Position, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }

// contiguous returns how many events follow a position without a gap; the error names the first gap.
func contiguous(events []eventstore.Event, after int64) (int, error) {
	for i := range events {
		if want := after + int64(i) + 1; events[i].Position != want {
			return i, &EventError{Position: want, Err: fmt.Errorf("%w: position %d follows on %d", ErrGap, events[i].Position, want-1)}
		}
	}
	return len(events), nil
}

// ErrLogTruncated means that the log no longer holds an event that was applied. It lost its end, in a failover to a server that had
// not received it or in a restore, and other events may have been appended since.
var ErrLogTruncated = errors.New("the log was truncated")

// Checkpoint is a position of the log and the id of the event there. As long as the log holds that event, it has not changed up to that
// position, since a log can lose only its end. The zero Checkpoint is before the first event.
type Checkpoint struct {
	Position int64
	EventID  uuid.UUID
}

// id returns the event's id as stored in the database: null at position 0.
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

// readAfter reads at most limit events after a checkpoint. The same statement checks that the log still holds the checkpoint's event;
// if not, the error is ErrLogTruncated. Every read that continues an earlier one uses readAfter, or readIncluding and eventsAfter.
func readAfter(ctx context.Context, log Log, from Checkpoint, limit int) ([]eventstore.Event, error) {
	events, err := readIncluding(ctx, log, from.Position, limit)
	if err != nil {
		return nil, err
	}
	return from.eventsAfter(events)
}

// readIncluding reads the event at a position, unless that is 0, and at most limit events after it.
func readIncluding(ctx context.Context, log Log, position int64, limit int) ([]eventstore.Event, error) {
	if position == 0 {
		return log.ReadAfter(ctx, 0, limit)
	}
	return log.ReadAfter(ctx, position-1, limit+1)
}

// eventsAfter returns the events after the checkpoint. events are the result of readIncluding for its position.
func (c Checkpoint) eventsAfter(events []eventstore.Event) ([]eventstore.Event, error) {
	switch {
	case c.Position == 0:
		return events, nil
	case len(events) == 0 || events[0].Position != c.Position || events[0].EventID != c.EventID:
		return nil, &EventError{Position: c.Position, Err: fmt.Errorf("%w: it no longer has the event %s, which was applied at position %d",
			ErrLogTruncated, c.EventID, c.Position)}
	}
	return events[1:], nil
}
