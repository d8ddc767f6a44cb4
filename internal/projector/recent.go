package projector

import (
	"context"
	"slices"
	"sync"
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

	mu     sync.Mutex
	events []eventstore.Event // contiguous, the last read at the end
	readAt time.Time
}

// ReadAfter implements Log.
func (r *recent) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	if events := r.kept(after, limit); len(events) > 0 {
		return events, nil
	}
	events, err := r.Log.ReadAfter(ctx, after, limit)
	if err == nil {
		r.keep(events)
	}
	return events, err
}

func (r *recent) kept(after int64, limit int) []eventstore.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 || time.Since(r.readAt) > recentFor {
		return nil
	}
	skip := after - r.events[0].Position + 1
	if skip < 0 || skip >= int64(len(r.events)) {
		return nil
	}
	events := r.events[skip:]
	return slices.Clone(events[:min(len(events), limit)])
}

// keep holds on to the events if they are the latest and without a gap.
func (r *recent) keep(events []eventstore.Event) {
	n := int64(len(events))
	if n == 0 || events[n-1].Position-events[0].Position != n-1 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := int64(0)
	if len(r.events) > 0 {
		last = r.events[len(r.events)-1].Position
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
	r.readAt = time.Now()
}
