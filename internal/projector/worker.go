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
	retryAsked   atomic.Bool // a parked stream is to be tried

	truncated bool // the log was, since the store was last flipped; used by run's goroutine alone
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

// poll is how long to wait without having been woken: not so long that the lease would run out.
func (w *worker) poll() time.Duration { return min(w.cfg.Poll, w.cfg.Lease/3) }
