package query

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets time pass on the clock of a synctest bubble, which takes no real time.
func pass(d time.Duration) { <-time.After(d) }

// TestWatcherReadsOnceAnInterval checks that the watcher reads positions once an interval however many calls wait, and not at all
// while none does.
func TestWatcherReadsOnceAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks, position := 0, int64(12)
		var mu sync.Mutex
		w := newWatcher(func(context.Context) (map[string]int64, error) {
			mu.Lock()
			defer mu.Unlock()
			looks++
			return map[string]int64{"balances": position}, nil
		})
		looked := func() int {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			n := looks
			looks = 0
			return n
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all, running sync.WaitGroup
		running.Go(func() { w.run(ctx) })
		pass(time.Hour)
		if n := looked(); n != 0 {
			t.Errorf("%d reads without a waiter", n)
		}
		for range 300 {
			all.Go(func() {
				if err := w.wait(ctx, "balances", 13, time.Hour); err != nil {
					t.Errorf("waiting: %v", err)
				}
			})
		}
		looked() // the reads that new waiters caused
		pass(100*w.every + w.every/2)
		if n := looked(); n != 100 {
			t.Errorf("%d reads in 100 intervals with 300 waiters", n)
		}
		mu.Lock()
		position = 13
		mu.Unlock()
		all.Wait()
		pass(w.every)
		looked()
		pass(time.Hour)
		if n := looked(); n != 0 {
			t.Errorf("%d reads after all waiters have returned", n)
		}
		cancel()
		running.Wait()
	})
}
