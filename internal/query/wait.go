package query

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const positionsSQL = `select projection, position from live_generations`

// lookEvery is how often the database is asked for positions while somebody waits and nothing else wakes the watcher:
// the case of a projector in another process, or of a replica.
const lookEvery = 20 * time.Millisecond

// watcher knows how far the projections have been applied, in the database that queries read, and lets any number of
// callers wait for a position. One goroutine looks, for all of them and only while there are any.
type watcher struct {
	read func(ctx context.Context) (map[string]int64, error)
	// awaited is told which projection somebody waits for, before each wait; it must not block.
	awaited func(projection string)
	every   time.Duration
	look    chan struct{} // holds one: a reason to look now

	mu        sync.Mutex
	positions map[string]int64
	moved     chan struct{} // closed and replaced when a position has grown
	waiters   int
}

func newWatcher(read func(context.Context) (map[string]int64, error)) *watcher {
	return &watcher{
		read: read, awaited: func(string) {}, every: lookEvery, look: make(chan struct{}, 1),
		positions: make(map[string]int64), moved: make(chan struct{}),
	}
}

// nudge asks the watcher to look now. It never blocks.
func (w *watcher) nudge() {
	select {
	case w.look <- struct{}{}:
	default:
	}
}

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.look:
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
		// An error is not the waiters': they wait on, and end by their own time.
		if positions, err := w.read(ctx); err == nil {
			w.update(positions)
		}
	}
}

func (w *watcher) update(positions map[string]int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.positions
	w.positions = positions // lower ones too: a log that went back takes its projections along
	for id, position := range positions {
		if position > before[id] {
			close(w.moved)
			w.moved = make(chan struct{})
			return
		}
	}
}

// saw tells that a projection was found at a position, which may be lower than what the watcher knows.
func (w *watcher) saw(projection string, position int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.positions[projection] = min(w.positions[projection], position)
}

// wait returns nil once the projection has applied the position, ErrBehind when the time is over before that, or the
// error of ctx.
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
		w.awaited(projection)
		w.nudge()
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
