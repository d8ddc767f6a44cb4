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
	// maxCachedEvents limits how many events are kept for projections that have not applied them yet: two batches, since one
	// projection is that far ahead of another under load. An event takes about 300 bytes.
	maxCachedEvents = 16_000

	// cacheTTL is how long events are served from memory after they were read: long enough for the projections of one
	// engine to share a read, and shorter than the first wait after a failure, so that a retry reads the log.
	cacheTTL = 100 * time.Millisecond
)

// tailCache is a Log that keeps the last events it has read, so that projections which follow the log together read and decode each
// event once. The read of each piece also read the event before it. If that event has changed, because the log was truncated, the
// cache is emptied, so the events in it always belong to one history of the log.
type tailCache struct {
	Log

	decode func(eventType string, schemaVersion int, payload []byte) (any, error)

	wakes atomic.Int64 // counts the calls of wake

	// reading is held while the log is read after the last piece, so that other readers wait and then find it in the cache.
	reading sync.Mutex

	mu     sync.Mutex
	pieces []piece // contiguous, as they were read, the last one at the end
	endAt  int64   // the count of wakes when the last event was the end of the log; -1 when it was not known to be
}

// piece holds events that were read together. It is not changed any more.
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

// wake tells the cache that the log has grown, so its last event is no longer the log's.
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

// lookup returns the part of a result that is cached, whether that is all of it, and whether the rest comes after the last piece.
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
	// A single event may be the one at the reader's checkpoint: then the reader needs to know whether the log has more by now.
	return events, len(events) > 1 && c.endAt == c.wakes.Load(), true
}

// clear empties the cache.
func (c *tailCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pieces = nil
}

// add caches the events if they are the latest and have no gap. end is the checkpoint that they were read after, zero if there is
// none.
func (c *tailCache) add(end Checkpoint, events []eventstore.Event, endAt int64) {
	n := int64(len(events))
	if n > maxCachedEvents || n > 0 && events[n-1].Position-events[0].Position != n-1 {
		return // a read of a replay, or a gap
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
	// Short pieces take more memory than their events, so the number of pieces is limited too.
	for len(c.pieces) > maxCachedPieces || c.pieces[len(c.pieces)-1].last()-c.pieces[0].first() >= maxCachedEvents {
		c.pieces[0] = piece{}
		c.pieces = c.pieces[1:]
	}
}

// maxCachedPieces limits how many pieces are kept, which lookup searches one by one.
const maxCachedPieces = 64
