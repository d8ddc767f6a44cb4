package command

import (
	"testing"

	"passbook/internal/account"
)

// TestEveryCallIsTakenEventually queues a single command for every batch beside bulk calls. An atomic group larger than the room
// for bulk must be taken, and so must the call behind it; and bulk must be taken even if more single commands wait than fit.
func TestEveryCallIsTakenEventually(t *testing.T) {
	t.Parallel()
	q := newQueue(2 * maxBatch)
	push := func(bulk bool, sizes ...int) *call {
		t.Helper()
		c := &call{ctx: t.Context(), bulk: bulk, done: make(chan struct{}), groups: make([]group, len(sizes))}
		for i, n := range sizes {
			c.groups[i] = group{call: c, requests: make([]Request, n)}
			for j := range c.groups[i].requests {
				c.groups[i].requests[j].Command = account.Deposit{}
			}
		}
		if _, err := q.push(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	atomic, behind := push(true, maxBulk+100), push(true, 1)
	for batch := range 3 {
		single := push(false, 1)
		if groups := q.take(); len(groups) == 0 || groups[0].call != single {
			t.Fatalf("batch %d does not begin with the single command", batch)
		}
	}
	if atomic.next != 1 || behind.next != 1 {
		t.Errorf("the atomic group was taken %d times, the call behind it %d times", atomic.next, behind.next)
	}
	bulk := push(true, 1)
	for range maxBatch + 10 {
		push(false, 1)
	}
	if groups := q.take(); len(groups) != maxBatch+1 || bulk.next != 1 {
		t.Errorf("a batch has %d groups, and bulk was taken %d times", len(groups), bulk.next)
	}
}
