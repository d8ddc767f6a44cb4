package projector

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// worker applies one projection while it holds the lease, and runs its replays.
type worker struct {
	cfg   *Config
	def   *Projection
	state *stateStore

	wake         signal // the log has grown
	wakeReplay   signal // a replay was asked for
	shortenDelay signal // a reader waits for it
	rate         meter
	retryAsked   atomic.Bool // a parked stream is to be tried

	truncated bool // the log was, since the store was last flipped; used by run's goroutine alone
}

func newWorker(cfg *Config, def *Projection) *worker {
	return &worker{cfg: cfg, def: def, state: &stateStore{cfg: cfg, def: def}, wake: newSignal(), wakeReplay: newSignal(), shortenDelay: newSignal()}
}

// run waits for the lease, works while it has it, and begins anew when it has lost it.
func (w *worker) run(ctx context.Context) {
	registered := false
	for ctx.Err() == nil {
		if !registered {
			if err := w.state.register(ctx); err != nil {
				w.warn(ctx, "registering the projection failed; retrying", err)
				sleep(ctx, w.cfg.Lease/3)
				continue
			}
			registered = true
		}
		st, ok, err := w.state.takeLease(ctx)
		if err != nil {
			w.warn(ctx, "taking the lease failed; retrying", err)
		}
		if !ok && w.def.PerInstance {
			w.follow(ctx)
			continue
		}
		if !ok {
			sleep(ctx, w.cfg.Lease/3)
			continue
		}
		w.cfg.Logger.InfoContext(ctx, "lease taken", "projection", w.def.ID, "epoch", st.epoch, "position", st.at.Position)
		w.runOwned(ctx, st)
		sleep(ctx, w.cfg.Lease/3) // lost: let the other one work
	}
}

// runOwned applies the projection and its replays until the lease is lost or ctx ends.
func (w *worker) runOwned(ctx context.Context, st state) {
	ctx, cancel := context.WithCancel(ctx)
	var replays sync.WaitGroup
	replays.Go(func() { w.runReplays(ctx, st.epoch, st.version < w.def.Version) })
	w.runLive(ctx, st.epoch)
	cancel()
	replays.Wait()

	release, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := w.state.releaseLease(release, st.epoch); err != nil {
		w.warn(release, "releasing the lease failed; it will expire", err)
	}
}

func (w *worker) warn(ctx context.Context, what string, err error) {
	w.cfg.warn(ctx, w.def.ID, what, err)
}

func (w *worker) status(ctx context.Context, head int64) (Status, error) {
	st, err := w.state.readStatus(ctx)
	if err != nil {
		return Status{}, err
	}
	if st.Owner == w.cfg.Instance {
		st.Rate = w.rate.perSecond()
	}
	if err := st.setLag(ctx, w.cfg.Log, head); err != nil {
		return Status{}, err
	}
	st.Replay, err = w.state.lastReplay(ctx)
	return st, err
}

func (w *worker) startReplay(ctx context.Context) (Replay, error) {
	r, err := w.state.startReplay(ctx)
	w.wakeReplay.set()
	return r, err
}

// rollbackTimeout is how long Rollback waits for the flip.
const rollbackTimeout = 15 * time.Second

func (w *worker) rollback(ctx context.Context) error {
	r, err := w.state.startRollback(ctx)
	if err != nil {
		return err
	}
	w.wakeReplay.set()
	deadline := time.Now().Add(rollbackTimeout)
	for r.State == ReplayRunning && time.Now().Before(deadline) && ctx.Err() == nil {
		sleep(ctx, 20*time.Millisecond)
		if r, err = w.state.replay(ctx, r.ID); err != nil {
			return err
		}
	}
	switch r.State {
	case ReplayFailed:
		return fmt.Errorf("%w: %s", ErrRollbackFailed, r.Error)
	case ReplayCancelled:
		return fmt.Errorf("%w: it was cancelled", ErrRollbackFailed)
	}
	return ctx.Err()
}

func (w *worker) askRetry(ctx context.Context, position int64) (Failure, error) {
	f, err := w.state.askRetry(ctx, position)
	if err == nil {
		w.retryAsked.Store(true)
		w.wake.set()
	}
	return f, err
}
