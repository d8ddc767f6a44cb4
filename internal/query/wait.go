package query

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const positionsSQL = `select projection, position from live_generations`

// pollInterval is how often the watcher reads the positions while a caller waits and nothing wakes it: the projector runs
// in another process, or queries read a replica.
const pollInterval = 20 * time.Millisecond

// watcher knows the positions of the projections in the database that queries read, and lets any number of callers wait
// for one. One goroutine reads the positions for all callers, and only while there are any.
type watcher struct {
	read func(ctx context.Context) (map[string]int64, error)
	// onWait is called with the projection before each wait; it must not block.
	onWait func(projection string)
	every  time.Duration
	woken  chan struct{} // has capacity 1

	mu        sync.Mutex
	positions map[string]int64
	moved     chan struct{} // closed and replaced when a position has grown
	waiters   int
}

func newWatcher(read func(context.Context) (map[string]int64, error)) *watcher {
	return &watcher{
		read: read, onWait: func(string) {}, every: pollInterval, woken: make(chan struct{}, 1),
		positions: make(map[string]int64), moved: make(chan struct{}),
	}
}

// wake makes the watcher read the positions now. It never blocks.
func (w *watcher) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// run serves callers until ctx ends.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.woken:
		case <-ticker.C:
		}
		w.mu.Lock()
		waiting := w.waiters > 0
		w.mu.Unlock()
		if !waiting {
			ticker.Stop()
			continue
		}
		ticker.Reset(w.every)
		// Callers go on waiting after an error, until their own timeout.
		if positions, err := w.read(ctx); err == nil {
			w.update(positions)
		}
	}
}

func (w *watcher) update(positions map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.positions
	w.positions = positions // lower ones too: when the log goes back, so do its projections
	for id, position := range positions {
		if position > before[id] {
			close(w.moved)
			w.moved = make(chan struct{})
			return
		}
	}
}

// lower corrects the known position of a projection that was found at a lower one.
func (w *watcher) lower(projection string, position int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.positions[projection] = min(w.positions[projection], position)
}

// wait returns nil once the projection has applied the position, ErrBehind when the timeout ends first, or the error of
// ctx.
func (w *watcher) wait(ctx context.Context, projection string, position int64, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	w.mu.Lock()
	w.waiters++
	defer func() {
		w.waiters--
		w.mu.Unlock()
	}()
	for w.positions[projection] < position {
		moved := w.moved
		w.mu.Unlock()
		w.onWait(projection)
		w.wake()
		var err error
		select {
		case <-moved:
		case <-timer.C:
			err = ErrBehind
		case <-ctx.Done():
			err = ctx.Err()
		}
		w.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) readPositions(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	type applied struct {
		ID       string
		Position int64
	}
	rows, _ := s.pool.Query(ctx, positionsSQL)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[applied])
	if err != nil {
		return nil, fmt.Errorf("query: positions: %w", err)
	}
	positions := make(map[string]int64, len(all))
	for _, p := range all {
		positions[p.ID] = p.Position
	}
	return positions, nil
}
