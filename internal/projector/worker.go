package projector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"passbook/internal/eventstore"
)

// worker applies one projection while it holds the lease, and runs its replays.
type worker struct {
	cfg *Config
	def *Projection

	wake         signal // the log has grown
	wakeReplay   signal // a replay was asked for
	shortenDelay signal // somebody waits for it
	rate         meter
	retryAsked   atomic.Bool // a parked stream is to be tried
}

func newWorker(cfg *Config, def *Projection) *worker {
	return &worker{cfg: cfg, def: def, wake: newSignal(), wakeReplay: newSignal(), shortenDelay: newSignal()}
}

func (w *worker) wakeUp() { w.wake.set() }

// run waits for the lease, works while it has it, and begins anew when it has lost it.
func (w *worker) run(ctx context.Context) error {
	registered := false
	for ctx.Err() == nil {
		if !registered {
			if err := w.register(ctx); err != nil {
				w.warn(ctx, "registering the projection failed", err)
				sleep(ctx, w.cfg.Lease/3)
				continue
			}
			registered = true
		}
		st, ok, err := w.takeLease(ctx)
		if err != nil {
			w.warn(ctx, "taking the lease failed", err)
		}
		if !ok {
			sleep(ctx, w.cfg.Lease/3)
			continue
		}
		w.cfg.Logger.InfoContext(ctx, "projection owned", "projection", w.def.ID, "epoch", st.epoch, "position", st.at.position)
		w.runOwned(ctx, st)
		sleep(ctx, w.cfg.Lease/3) // lost: let the other one work
	}
	return nil
}

// runOwned applies the projection and its replays until the lease is lost or ctx ends.
func (w *worker) runOwned(ctx context.Context, st state) {
	ctx, cancel := context.WithCancel(ctx)
	var replays sync.WaitGroup
	replays.Go(func() { w.replays(ctx, st.epoch, st.version < w.def.Version) })
	w.runLive(ctx, st.epoch)
	cancel()
	replays.Wait()

	release, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := w.releaseLease(release, st.epoch); err != nil {
		w.warn(release, "giving up the lease failed; it runs out by itself", err)
	}
}

// runLive applies batch after batch, and returns when the lease is lost or ctx ends. What no stream can be parked for
// halts the projection, which then tries again at growing intervals until the cause is gone.
func (w *worker) runLive(ctx context.Context, epoch int64) {
	a := w.newApplier(w.cfg.Batch)
	a.live = true
	a.read = func(ctx context.Context, from checkpoint, limit int) ([]eventstore.Event, error) {
		return readAfter(ctx, w.cfg.tail, from, limit)
	}
	halts, stale, renewAt := 0, true, time.Time{}
	for ctx.Err() == nil {
		if stale || time.Now().After(renewAt) {
			switch err := a.refresh(ctx, epoch); {
			case errors.Is(err, errFenced):
				w.cfg.Logger.WarnContext(ctx, "projection lost to another instance", "projection", w.def.ID, "epoch", epoch)
				return
			case err != nil:
				w.warn(ctx, "renewing the lease failed", err)
				sleep(ctx, w.cfg.Lease/10)
				continue
			}
			stale, renewAt = false, time.Now().Add(w.cfg.Lease/3)
		}
		if a.status == "paused" {
			w.wake.wait(ctx, w.poll())
			stale = true
			continue
		}
		began := time.Now()
		applied, err := w.runOnce(ctx, a, epoch)
		switch {
		case errors.Is(err, errFenced):
			stale = true
		case errors.Is(err, errRetryNow):
		case err != nil && ctx.Err() == nil:
			halts++
			stale = true
			w.fail(ctx, epoch, a.position+1, err)
			sleep(ctx, min(100*time.Millisecond<<min(halts, 6), w.cfg.Lease/3))
		case applied == 0:
			halts = 0
			w.wake.wait(ctx, w.poll())
		default:
			halts = 0
			w.cfg.Observe(w.def.ID, applied, time.Since(began))
			renewAt = time.Now().Add(w.cfg.Lease / 3)
			if applied < int64(a.limit) { // caught up, or nearly
				w.delayBatch(ctx, time.Since(began))
				w.wake.wait(ctx, w.poll())
			}
		}
	}
}

// maxBatchDelay bounds the rest after a long batch.
const maxBatchDelay = 250 * time.Millisecond

// delayBatch lets events gather after a batch that took so long: what follows the log is to take a small part of the time only,
// in few large batches. Somebody who waits for the projection cuts it short: to as long as the batch took, and half the pace
// at most.
func (w *worker) delayBatch(ctx context.Context, took time.Duration) {
	pace := w.cfg.BatchDelay
	if w.def.BatchDelay > 0 {
		pace = w.def.BatchDelay
	}
	short := min(max(took, pace/4), pace/2)
	sleep(ctx, short)
	w.shortenDelay.wait(ctx, max(pace, min(4*took, maxBatchDelay, w.cfg.Lease/3))-short)
}

// poll is how long to wait without having been woken: not so long that the lease would run out.
func (w *worker) poll() time.Duration { return min(w.cfg.Poll, w.cfg.Lease/3) }

// runOnce tries a parked stream, if one is due, and applies the next batch, so that neither waits for the other.
func (w *worker) runOnce(ctx context.Context, a *applier, epoch int64) (int64, error) {
	if w.retryAsked.Swap(false) {
		a.nextRetry = time.Time{}
	}
	tried, err := a.retry(ctx)
	if err != nil {
		return 0, err
	}
	applied, err := a.applyNext(ctx)
	if applied > 0 || tried {
		w.rate.add(applied)
		w.cfg.Applied(w.def.ID, a.position)
	}
	switch {
	case applied > 0:
		a.status = "running"
		return applied, err
	case err != nil:
		return 0, err
	case a.status == "halted":
		if err := w.clearHalt(ctx, epoch, a.position); err != nil {
			return 0, err
		}
		a.status = "running"
	}
	if tried {
		return 0, errRetryNow
	}
	return 0, nil
}

// fail records why the next batch could not be applied, unless the database is merely away.
func (w *worker) fail(ctx context.Context, epoch, position int64, cause error) {
	w.warn(ctx, "applying events failed", cause)
	if w.cfg.Transient(cause) {
		return
	}
	if at, ok := errors.AsType[*EventError](cause); ok {
		position = at.Position
	}
	if err := w.recordHalt(ctx, epoch, position, cause); err != nil && !errors.Is(err, errFenced) {
		w.warn(ctx, "recording a failure failed", err)
	}
}

// warn logs an error of something that is tried again, unless the engine is just being stopped.
func (w *worker) warn(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		w.cfg.Logger.WarnContext(ctx, what, "projection", w.def.ID, "error", err)
	}
}

// sleep waits, or returns when ctx ends.
func sleep(ctx context.Context, d time.Duration) { signal(nil).wait(ctx, d) }

// meterWindow is how many seconds a meter looks back.
const meterWindow = 10

// meter counts events by the second.
type meter struct {
	mu    sync.Mutex
	slots [meterWindow]struct{ second, events int64 }
}

func (m *meter) add(events int64) {
	second := time.Now().Unix()
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := &m.slots[second%meterWindow]
	if slot.second != second {
		slot.second, slot.events = second, 0
	}
	slot.events += events
}

// perSecond is the mean over the last ten seconds, the running one included.
func (m *meter) perSecond() float64 {
	oldest := time.Now().Unix() - meterWindow
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum int64
	for _, slot := range m.slots {
		if slot.second > oldest {
			sum += slot.events
		}
	}
	return float64(sum) / meterWindow
}
