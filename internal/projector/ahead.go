package projector

import (
	"context"

	"passbook/internal/eventstore"
)

// ahead is a Log for one who reads it from end to end: while a chunk is applied the next is read. It is for one
// goroutine, which must close it.
type ahead struct {
	Log

	next   chan chunk // holds the chunk that was asked for, once it is there; nil when none was
	after  int64
	limit  int
	cancel context.CancelFunc
}

type chunk struct {
	events []eventstore.Event
	err    error
}

// ReadAfter implements Log.
func (a *ahead) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	events, err := a.take(after, limit)
	if events == nil && err == nil {
		events, err = a.Log.ReadAfter(ctx, after, limit)
	}
	if err == nil && len(events) == limit {
		a.ask(ctx, events[len(events)-1].Position, limit)
	}
	return events, err
}

func (a *ahead) ask(ctx context.Context, after int64, limit int) {
	ctx, a.cancel = context.WithCancel(ctx)
	next := make(chan chunk, 1)
	a.next, a.after, a.limit = next, after, limit
	go func() {
		events, err := a.Log.ReadAfter(ctx, after, limit)
		next <- chunk{events, err}
	}()
}

// take waits for the chunk that was asked for, and answers it if it is the one that is wanted now.
func (a *ahead) take(after int64, limit int) ([]eventstore.Event, error) {
	if a.next == nil {
		return nil, nil
	}
	got := <-a.next
	a.cancel()
	a.next = nil
	if a.after != after || a.limit != limit {
		return nil, nil
	}
	return got.events, got.err
}

// close gives up what was asked for.
func (a *ahead) close() {
	if a.next != nil {
		a.cancel()
		<-a.next
		a.next = nil
	}
}
