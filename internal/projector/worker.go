package projector

import (
	"context"
	"sync/atomic"
	"time"

	"passbook/internal/eventstore"
)

// worker applies one projection while it holds the lease, and runs its replays.
type worker struct {
	cfg   *Config
	def   *Projection
	state *stateStore

	wake         signal // the log has grown
	wakeReplay   signal // a replay or a rollback was requested
	shortenDelay signal // a reader waits for the projection
	rate         meter
	retryAsked   atomic.Bool // RetryFailure was called for a parked stream

	truncated bool // the log was truncated since the store was last flipped; only run's goroutine uses it
}

func newWorker(cfg *Config, def *Projection) *worker {
	return &worker{cfg: cfg, def: def, state: &stateStore{cfg: cfg, def: def}, wake: newSignal(), wakeReplay: newSignal(), shortenDelay: newSignal()}
}

func (w *worker) warn(ctx context.Context, what string, err error) {
	w.cfg.warn(ctx, w.def.ID, what, err)
}

func (w *worker) readTail(ctx context.Context, from Checkpoint, limit int) ([]eventstore.Event, error) {
	return readAfter(ctx, w.cfg.tail, from, limit)
}

// poll returns how long to wait for a wake: Config.Poll, but not so long that the lease would expire.
func (w *worker) poll() time.Duration { return min(w.cfg.Poll, w.cfg.Lease/3) }
