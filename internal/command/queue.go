package command

import (
	"context"
	"iter"
	"slices"
	"sync"
)

// Limits of a batch, in commands.
const (
	// maxBatch is large enough that a command's share of the commit is negligible.
	maxBatch = 1024
	// maxBulk limits the commands of bulk calls in a batch, so that single commands do not wait long for them; only an atomic
	// group may exceed it. minBulk is how many a batch takes even if many single commands wait.
	maxBulk, minBulk = 512, 64
)

// group is an atomic group: one command, or all commands of one DoAll, which are appended whole or not at all.
type group struct {
	call     *call
	requests []Request
	// The answer, once the group is finished: a result for each request, or an error.
	results []Result
	err     error
}

func (g *group) dryRun() bool { return len(g.requests) > 0 && g.requests[0].DryRun }

// keys iterates over the idempotency keys of the group's requests.
func (g *group) keys() iter.Seq[*Key] {
	return func(yield func(*Key) bool) {
		for i := range g.requests {
			if k := g.requests[i].key(); k != nil && !yield(k) {
				return
			}
		}
	}
}

// call holds the groups that one caller waits for. From push until done is closed it belongs to the batcher.
type call struct {
	// ctx is the caller's: groups that have not been taken when it ends are dropped.
	ctx    context.Context
	groups []group
	bulk   bool
	next   int // the index of the first group that has not been taken
	open   int // how many groups are not finished
	done   chan struct{}
}

// queue holds the calls that wait, and the idempotency keys of calls that are not finished.
type queue struct {
	size int
	wake chan struct{} // one slot: signals that there is something to take

	mu       sync.Mutex
	single   []*call
	bulk     []*call
	waiting  int // groups
	stopped  bool
	inFlight map[[16]byte]*call
}

func newQueue(size int) *queue {
	return &queue{size: size, wake: make(chan struct{}, 1), inFlight: make(map[[16]byte]*call)}
}

// push claims the keys of a call and queues it. It returns the groups with a key that another call has claimed: their error is
// ErrKeyInFlight. If that is all of them, the call is done. On an error nothing is queued and no key claimed.
func (q *queue) push(c *call) (inFlight []*group, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.stopped:
		return nil, ErrUnavailable
	case !c.bulk && len(q.single) >= q.size:
		return nil, ErrOverloaded
	}
	for i := range c.groups {
		if g := &c.groups[i]; q.claim(g) {
			c.open++
		} else {
			g.err = ErrKeyInFlight
			inFlight = append(inFlight, g)
		}
	}
	if c.open == 0 {
		close(c.done)
		return inFlight, nil
	}
	if c.bulk {
		q.bulk = append(q.bulk, c)
	} else {
		q.single = append(q.single, c)
	}
	q.waiting += len(c.groups)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return inFlight, nil
}

// claim claims all keys of a group for its call, or none.
func (q *queue) claim(g *group) bool {
	for k := range g.keys() {
		if other := q.inFlight[k.Hash]; other != nil && other != g.call {
			return false
		}
	}
	for k := range g.keys() {
		q.inFlight[k.Hash] = g.call
	}
	return true
}

// release releases the keys of a call.
func (q *queue) release(c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range c.groups {
		for k := range c.groups[i].keys() {
			if q.inFlight[k.Hash] == c {
				delete(q.inFlight, k.Hash)
			}
		}
	}
}

// take removes and returns the groups of the next batch, none if nothing waits: single commands first, then the bulk calls in
// turn, each in its own order.
func (q *queue) take() []*group {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.single), maxBatch)
	groups := make([]*group, 0, n)
	for _, c := range q.single[:n] {
		groups, _ = q.takeFrom(c, groups, 1)
	}
	q.single = slices.Delete(q.single, 0, n)
	singles := len(groups)
	for room := max(min(maxBulk, maxBatch-n), minBulk); room > 0 && len(q.bulk) > 0; {
		c := q.bulk[0]
		// An atomic group is never split. The first is taken whatever its size, or single commands could starve it.
		if len(c.groups[c.next].requests) > room && len(groups) > singles {
			break
		}
		groups, room = q.takeFrom(c, groups, room)
		q.bulk = slices.Delete(q.bulk, 0, 1)
		if c.next < len(c.groups) {
			q.bulk = append(q.bulk, c)
		}
	}
	return groups
}

// takeFrom takes groups of a call while there is room, which counts requests and may become negative.
func (q *queue) takeFrom(c *call, groups []*group, room int) ([]*group, int) {
	for c.next < len(c.groups) && room > 0 {
		g := &c.groups[c.next]
		c.next++
		q.waiting--
		if g.err == nil { // else push has failed it: a key was in flight
			groups = append(groups, g)
			room -= len(g.requests)
		}
	}
	return groups, room
}

// stop makes push refuse every call from now on. Calls in the queue can still be taken.
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}
