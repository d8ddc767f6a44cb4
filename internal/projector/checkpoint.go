package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// ErrLogTruncated says that the log does not hold any more what was applied of it. It lost its end, in a failover to a server
// that had not received it or when it was restored, and what is appended from there on is something else.
var ErrLogTruncated = errors.New("the log was truncated")

// checkpoint is a position of the log with the event at it. As long as the log holds that event, all that was read up to there is
// as it was read, since a log loses nothing but its end. The zero point is before the first event.
type checkpoint struct {
	position int64
	event    uuid.UUID
}

// id is the event as a database keeps it.
func (p checkpoint) id() *uuid.UUID {
	if p.position == 0 {
		return nil
	}
	return &p.event
}

// checkpointOf is the inverse of id.
func checkpointOf(position int64, event *uuid.UUID) checkpoint {
	if event == nil {
		return checkpoint{position: position}
	}
	return checkpoint{position, *event}
}

// readAfter reads at most limit events that follow on a point, which the log is seen to hold in the same statement. Every read
// that goes on from an earlier one goes through here or does both steps. The error is ErrLogTruncated when the log does not hold it.
func readAfter(ctx context.Context, log Log, from checkpoint, limit int) ([]eventstore.Event, error) {
	events, err := readIncluding(ctx, log, from.position, limit)
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

// eventsAfter returns what follows on the point among events that were read from its position on.
func (p checkpoint) eventsAfter(events []eventstore.Event) ([]eventstore.Event, error) {
	switch {
	case p.position == 0:
		return events, nil
	case len(events) == 0 || events[0].Position != p.position || events[0].EventID != p.event:
		return nil, &EventError{Position: p.position, Err: fmt.Errorf("%w: the event %s, applied at position %d, is not in it any more",
			ErrLogTruncated, p.event, p.position)}
	}
	return events[1:], nil
}
