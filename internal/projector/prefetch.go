package projector

import (
	"context"

	"passbook/internal/eventstore"
)

// chunksAhead is how many chunks are read ahead of the one that is applied. It is two because one connection reads a chunk more slowly
// than it is applied.
const chunksAhead = 2

// prefetcher reads a log from start to end: while a chunk is applied, the next ones are read, each on a connection of its own. Positions
// have no gaps, so it is known where a chunk begins before the chunks ahead of it have been read. It is for one goroutine, which
// must close it.
type prefetcher struct {
	log   Log
	ahead []*chunk // in the order in which they are applied
}

// chunk is a read that was started ahead of its use; events and err are set once done is closed.
type chunk struct {
	after  int64
	limit  int
	cancel context.CancelFunc
	done   chan struct{}
	events []eventstore.Event
	err    error
}

// readAfter does what the function readAfter does, with chunks that were read ahead. As with any read, the log may have grown since.
func (p *prefetcher) readAfter(ctx context.Context, from Checkpoint, limit int) ([]eventstore.Event, error) {
	var (
		events []eventstore.Event
		err    error
	)
	if len(p.ahead) > 0 && p.ahead[0].after == from.Position && p.ahead[0].limit == limit {
		first := p.ahead[0]
		p.ahead = p.ahead[1:]
		<-first.done
		first.cancel()
		events, err = first.events, first.err
	} else {
		p.close()
		events, err = readIncluding(ctx, p.log, from.Position, limit)
	}
	if err == nil {
		events, err = from.eventsAfter(events)
	}
	if err != nil || len(events) < limit {
		p.close()
		return events, err
	}
	next := events[len(events)-1].Position
	if n := len(p.ahead); n > 0 {
		next = p.ahead[n-1].after + int64(limit)
	}
	for ; len(p.ahead) < chunksAhead; next += int64(limit) {
		p.prefetch(ctx, next, limit)
	}
	return events, nil
}

func (p *prefetcher) prefetch(ctx context.Context, after int64, limit int) {
	ctx, cancel := context.WithCancel(ctx)
	c := &chunk{after: after, limit: limit, cancel: cancel, done: make(chan struct{})}
	p.ahead = append(p.ahead, c)
	go func() {
		defer close(c.done)
		c.events, c.err = readIncluding(ctx, p.log, after, limit)
	}()
}

// close cancels the reads that were started ahead, and waits until they have ended.
func (p *prefetcher) close() {
	for _, c := range p.ahead {
		c.cancel()
		<-c.done
	}
	p.ahead = nil
}
