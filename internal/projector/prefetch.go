package projector

import (
	"context"

	"passbook/internal/eventstore"
)

// chunksAhead is how many chunks a replay has asked for beyond the one it applies. Two, because one connection reads
// more slowly than a chunk is applied.
const chunksAhead = 2

// prefetcher reads a log from end to end: while a chunk is applied the next ones are read, each on a connection of its own.
// Where they begin is known before the ones ahead of them are there, since positions have no gaps. It is for one goroutine,
// which must close it.
type prefetcher struct {
	log   Log
	asked []*chunk
}

// chunk is one that was asked for; its events and err are there once done is closed.
type chunk struct {
	after  int64
	limit  int
	cancel context.CancelFunc
	done   chan struct{}
	events []eventstore.Event
	err    error
}

// readAfter is the function of that name. A chunk that was asked for early may end before the log does by now, as any read may.
func (a *prefetcher) readAfter(ctx context.Context, from Checkpoint, limit int) ([]eventstore.Event, error) {
	var (
		events []eventstore.Event
		err    error
	)
	if len(a.asked) > 0 && a.asked[0].after == from.Position && a.asked[0].limit == limit {
		first := a.asked[0]
		a.asked = a.asked[1:]
		<-first.done
		first.cancel()
		events, err = first.events, first.err
	} else {
		a.close()
		events, err = readIncluding(ctx, a.log, from.Position, limit)
	}
	if err == nil {
		events, err = from.eventsAfter(events)
	}
	if err != nil || len(events) < limit {
		a.close()
		return events, err
	}
	next := events[len(events)-1].Position
	if n := len(a.asked); n > 0 {
		next = a.asked[n-1].after + int64(limit)
	}
	for ; len(a.asked) < chunksAhead; next += int64(limit) {
		a.ask(ctx, next, limit)
	}
	return events, nil
}

func (a *prefetcher) ask(ctx context.Context, after int64, limit int) {
	ctx, cancel := context.WithCancel(ctx)
	c := &chunk{after: after, limit: limit, cancel: cancel, done: make(chan struct{})}
	a.asked = append(a.asked, c)
	go func() {
		defer close(c.done)
		c.events, c.err = readIncluding(ctx, a.log, after, limit)
	}()
}

// close gives up what was asked for, and waits until nothing reads any more.
func (a *prefetcher) close() {
	for _, c := range a.asked {
		c.cancel()
		<-c.done
	}
	a.asked = nil
}
