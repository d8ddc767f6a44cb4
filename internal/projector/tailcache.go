package projector

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"passbook/internal/eventstore"
)

const (
	// maxCachedEvents bounds how many events are kept for the projections that have yet to apply them: several batches, since
	// under load one projection is ahead of another by that much. Some 300 bytes an event.
	maxCachedEvents = 16_000

	// cacheTTL is how long events are served from memory after they were read: long enough for the projections of one
	// engine to share a read, and shorter than the first wait after a failure, so that a retry reads the log.
	cacheTTL = 100 * time.Millisecond
)

// tailCache is a Log that keeps the end of what it has read, so that several projections which follow the log together
// read and decode each event once. The events kept are of one log: each piece was read together with the last event before it.
// If that has changed, because the log was truncated, the cache is emptied.
type tailCache struct {
	Log

	decode func(eventType string, schemaVersion int, payload []byte) (any, error)

	wakes atomic.Int64 // how often the log was said to have grown

	// reading is held while the log is read after the last piece, so that other readers wait and then find it in the cache.
	reading sync.Mutex

	mu     sync.Mutex
	pieces []piece // contiguous, as they were read, the last one at the end
	endAt  int64   // the count of wakes when the last event was the end of the log; -1 when it was not known to be
}

// piece is events that were read together, which does not change any more.
type piece struct {
	events []eventstore.Event
	readAt time.Time
}

func (p *piece) first() int64 { return p.events[0].Position }

func (p *piece) last() int64 { return p.events[len(p.events)-1].Position }

func (p *piece) end() Checkpoint {
	e := &p.events[len(p.events)-1]
	return Checkpoint{e.Position, e.EventID}
}

// wake says that the log has grown, so that what is cached is no longer its end.
func (c *tailCache) wake() { c.wakes.Add(1) }

// ReadAfter implements Log. A result of fewer events than the limit ends where the log ended when it was
// called, or when it was woken last: a reader that waits for the next wake then misses nothing.
func (c *tailCache) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	kept, complete, atEnd := c.lookup(after, limit)
	if complete {
		return kept, nil
	}
	if atEnd {
		c.reading.Lock()
		defer c.reading.Unlock()
		if kept, complete, _ = c.lookup(after, limit); complete {
			return kept, nil
		}
	}
	wakes, missing := c.wakes.Load(), limit-len(kept)
	var end Checkpoint // of what is kept
	if n := len(kept); n > 0 {
		end = Checkpoint{kept[n-1].Position, kept[n-1].EventID}
	}
	var events []eventstore.Event
	var err error
	if end.Position == 0 {
		events, err = c.Log.ReadAfter(ctx, after, limit)
	} else if events, err = readAfter(ctx, c.Log, end, missing); errors.Is(err, ErrLogTruncated) {
		c.clear()
		kept, end, missing = nil, Checkpoint{}, limit
		events, err = c.Log.ReadAfter(ctx, after, limit)
	}
	if err != nil {
		return nil, err
	}
	if len(events) == missing {
		wakes = -1 // there may be more
	}
	for i := range events {
		e := &events[i]
		// A projection that folds the event decodes it again, and reports the error with its position.
		e.Decoded, _ = c.decode(e.Type, e.SchemaVersion, e.Payload)
	}
	c.add(end, events, wakes)
	if len(kept) == 0 {
		return slices.Clip(events), nil
	}
	return append(kept, events...), nil
}

// lookup returns what the cache has of a result, whether that is complete, and whether the rest comes after the last piece.
func (c *tailCache) lookup(after int64, limit int) (events []eventstore.Event, complete, atEnd bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.pieces)
	if n == 0 || time.Since(c.pieces[n-1].readAt) > cacheTTL {
		return nil, false, false
	}
	last := c.pieces[n-1].last()
	if after < c.pieces[0].first()-1 || after > last {
		return nil, false, false
	}
	if after == last {
		return nil, false, true
	}
	for i := range c.pieces {
		p := &c.pieces[i]
		if p.last() <= after {
			continue
		}
		part := p.events[max(0, after+1-p.first()):]
		part = part[:min(len(part), limit-len(events))]
		if events == nil {
			events = slices.Clip(part) // most results are of one piece, and need no array of their own
		} else {
			events = append(events, part...)
		}
		if len(events) == limit {
			return events, true, false
		}
	}
	// One event alone may be the one that a reader has already: then it wants to know whether there are more by now.
	return events, len(events) > 1 && c.endAt == c.wakes.Load(), true
}

// clear empties the cache.
func (c *tailCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pieces = nil
}

// add holds on to the events if they are the latest and without a gap. end is the event that they were read together with, if
// there was one.
func (c *tailCache) add(end Checkpoint, events []eventstore.Event, endAt int64) {
	n := int64(len(events))
	if n > maxCachedEvents || n > 0 && events[n-1].Position-events[0].Position != n-1 {
		return // by a replay, or damaged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last, fresh := Checkpoint{}, false
	if k := len(c.pieces); k > 0 {
		last, fresh = c.pieces[k-1].end(), time.Since(c.pieces[k-1].readAt) <= cacheTTL
	}
	if n == 0 {
		if end == last {
			c.endAt = endAt
		}
		return
	}
	next := piece{events: events, readAt: time.Now()}
	switch {
	case next.last() <= last.Position && fresh:
		return
	case end == last && end.Position > 0 && fresh:
		c.pieces = append(c.pieces, next)
	default:
		c.pieces = []piece{next}
	}
	c.endAt = endAt
	// Short pieces weigh more than their events, so their number is bounded too.
	for len(c.pieces) > maxCachedPieces || c.pieces[len(c.pieces)-1].last()-c.pieces[0].first() >= maxCachedEvents {
		c.pieces[0] = piece{}
		c.pieces = c.pieces[1:]
	}
}

// maxCachedPieces bounds how many pieces are kept, and looked through.
const maxCachedPieces = 64
