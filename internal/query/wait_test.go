package query

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets time go by on the clock of a bubble, where nobody waits for it.
func pass(d time.Duration) { <-time.After(d) }

// TestLooksAreByTheClock sees, on a clock of its own, that the watcher looks once an interval however many wait, and
// not at all while nobody does.
func TestLooksAreByTheClock(t *testing.T) {
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
			t.Errorf("%d looks with nobody waiting", n)
		}
		for range 300 {
			all.Go(func() {
				if err := w.wait(ctx, "balances", 13, time.Hour); err != nil {
					t.Errorf("waiting: %v", err)
				}
			})
		}
		looked() // those that they asked for as they came
		pass(100*w.every + w.every/2)
		if n := looked(); n != 100 {
			t.Errorf("300 waiters cost %d looks in 100 intervals", n)
		}
		mu.Lock()
		position = 13
		mu.Unlock()
		all.Wait()
		pass(w.every)
		looked()
		pass(time.Hour)
		if n := looked(); n != 0 {
			t.Errorf("%d looks after all have gone", n)
		}
		cancel()
		running.Wait()
	})
}
