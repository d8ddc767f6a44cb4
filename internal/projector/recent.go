package projector

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"passbook/internal/eventstore"
)

const (
	// recentEvents bounds how many events are kept for the projections that have yet to apply them.
	recentEvents = 4_096
	// recentFor is how long events are answered from memory after they were read: long enough for the projections of one
	// engine to share a read, and shorter than the first wait after a failure, so that one who tries again reads anew.
	recentFor = 100 * time.Millisecond
)

// recent is a Log that keeps the end of what it has read, so that several projections which follow the log together
// read each event once. The events of a position never change, so what is kept cannot be wrong.
type recent struct {
	Log

	wakes atomic.Int64 // how often the log was said to have grown

	mu     sync.Mutex
	events []eventstore.Event // contiguous, the last read at the end
	readAt time.Time
	endAt  int64 // the count of wakes when the last event was the end of the log; -1 when it was not known to be
}

// wake says that the log has grown: what is kept is not its end any more.
func (r *recent) wake() { r.wakes.Add(1) }

// ReadAfter implements Log. An answer of fewer events than the limit ends with what was the end of the log when it was
// asked for, or when it was woken last: whoever waits for the next wake then misses nothing.
func (r *recent) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	kept, whole := r.kept(after, limit)
	if whole {
		return kept, nil
	}
	wakes, missing := r.wakes.Load(), limit-len(kept)
	events, err := r.Log.ReadAfter(ctx, after+int64(len(kept)), missing)
	if err != nil {
		return nil, err
	}
	if len(events) == missing {
		wakes = -1 // there may be more
	}
	r.keep(after+int64(len(kept)), events, wakes)
	return append(kept, events...), nil
}

// kept answers what is kept of an answer, and whether it is all of it.
func (r *recent) kept(after int64, limit int) (events []eventstore.Event, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 || time.Since(r.readAt) > recentFor {
		return nil, false
	}
	skip := after - r.events[0].Position + 1
	if skip < 0 || skip >= int64(len(r.events)) {
		return nil, false
	}
	events = r.events[skip:]
	events = slices.Clone(events[:min(len(events), limit)])
	return events, len(events) == limit || r.endAt == r.wakes.Load()
}

// keep holds on to the events if they are the latest and without a gap.
func (r *recent) keep(after int64, events []eventstore.Event, endAt int64) {
	n := int64(len(events))
	if n > recentEvents || n > 0 && events[n-1].Position-events[0].Position != n-1 {
		return // by a replay, or damaged
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := int64(0)
	if len(r.events) > 0 {
		last = r.events[len(r.events)-1].Position
	}
	if n == 0 {
		if after == last {
			r.endAt = endAt
		}
		return
	}
	switch {
	case events[n-1].Position <= last && time.Since(r.readAt) <= recentFor:
		return
	case events[0].Position == last+1 && time.Since(r.readAt) <= recentFor:
		r.events = append(r.events, events...)
	default:
		r.events = slices.Clone(events)
	}
	if over := len(r.events) - recentEvents; over > 0 {
		r.events = slices.Delete(r.events, 0, over)
	}
	r.readAt, r.endAt = time.Now(), endAt
}
