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

	wake       flag // the log has grown
	wakeReplay flag // a replay was asked for
	hurry      flag // somebody waits for it
	rate       meter
	retryAsked atomic.Bool // a parked stream is to be tried
}

func newWorker(cfg *Config, def *Projection) *worker {
	return &worker{cfg: cfg, def: def, wake: newFlag(), wakeReplay: newFlag(), hurry: newFlag()}
}

func (w *worker) wakeUp() { w.wake.raise() }

// run waits for the lease, works while it has it, and begins anew when it has lost it.
func (w *worker) run(ctx context.Context) error {
	registered := false
	for ctx.Err() == nil {
		if !registered {
			if err := w.register(ctx); err != nil {
				w.complain(ctx, "registering the projection failed", err)
				pause(ctx, w.cfg.Lease/3)
				continue
			}
			registered = true
		}
		st, ok, err := w.takeLease(ctx)
		if err != nil {
			w.complain(ctx, "taking the lease failed", err)
		}
		if !ok {
			pause(ctx, w.cfg.Lease/3)
			continue
		}
		w.cfg.Logger.InfoContext(ctx, "projection owned", "projection", w.def.ID, "epoch", st.epoch, "position", st.at.position)
		w.own(ctx, st)
		pause(ctx, w.cfg.Lease/3) // lost: let the other one work
	}
	return nil
}

// own applies the projection and its replays until the lease is lost or ctx ends.
func (w *worker) own(ctx context.Context, st state) {
	ctx, cancel := context.WithCancel(ctx)
	var replays sync.WaitGroup
	replays.Go(func() { w.replays(ctx, st.epoch, st.version < w.def.Version) })
	w.tail(ctx, st.epoch)
	cancel()
	replays.Wait()

	release, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := w.releaseLease(release, st.epoch); err != nil {
		w.complain(release, "giving up the lease failed; it runs out by itself", err)
	}
}

// tail applies batch after batch, and returns when the lease is lost or ctx ends. What no stream can be parked for
// halts the projection, which then tries again at growing intervals until the cause is gone.
func (w *worker) tail(ctx context.Context, epoch int64) {
	l := w.newLane(w.cfg.Batch)
	l.live = true
	l.read = func(ctx context.Context, from point, limit int) ([]eventstore.Event, error) {
		return readOn(ctx, w.cfg.tail, from, limit)
	}
	halts, stale, renewAt := 0, true, time.Time{}
	for ctx.Err() == nil {
		if stale || time.Now().After(renewAt) {
			switch err := l.refresh(ctx, epoch); {
			case errors.Is(err, errFenced):
				w.cfg.Logger.WarnContext(ctx, "projection lost to another instance", "projection", w.def.ID, "epoch", epoch)
				return
			case err != nil:
				w.complain(ctx, "renewing the lease failed", err)
				pause(ctx, w.cfg.Lease/10)
				continue
			}
			stale, renewAt = false, time.Now().Add(w.cfg.Lease/3)
		}
		if l.status == "paused" {
			w.wake.waitFor(ctx, w.poll())
			stale = true
			continue
		}
		began := time.Now()
		applied, err := w.round(ctx, l, epoch)
		switch {
		case errors.Is(err, errFenced):
			stale = true
		case errors.Is(err, errAgain):
		case err != nil && ctx.Err() == nil:
			halts++
			stale = true
			w.fail(ctx, epoch, l.position+1, err)
			pause(ctx, min(100*time.Millisecond<<min(halts, 6), w.cfg.Lease/3))
		case applied == 0:
			halts = 0
			w.wake.waitFor(ctx, w.poll())
		default:
			halts = 0
			w.cfg.Observe(w.def.ID, applied, time.Since(began))
			renewAt = time.Now().Add(w.cfg.Lease / 3)
			if applied < int64(l.limit) { // caught up, or nearly
				w.rest(ctx, time.Since(began))
				w.wake.waitFor(ctx, w.poll())
			}
		}
	}
}

// longestRest bounds the rest after a long batch.
const longestRest = 250 * time.Millisecond

// rest lets events gather after a batch that took so long: what follows the log is to take a small part of the time only,
// in few large batches. Somebody who waits for the projection cuts it short: to as long as the batch took, and half the pace
// at most.
func (w *worker) rest(ctx context.Context, took time.Duration) {
	pace := w.cfg.Pace
	if w.def.Pace > 0 {
		pace = w.def.Pace
	}
	short := min(max(took, pace/4), pace/2)
	pause(ctx, short)
	w.hurry.waitFor(ctx, max(pace, min(4*took, longestRest, w.cfg.Lease/3))-short)
}

// poll is how long to wait without having been woken: not so long that the lease would run out.
func (w *worker) poll() time.Duration { return min(w.cfg.Poll, w.cfg.Lease/3) }

// round tries a parked stream, if one is due, and applies the next batch, so that neither waits for the other.
func (w *worker) round(ctx context.Context, l *lane, epoch int64) (int64, error) {
	if w.retryAsked.Swap(false) {
		l.nextRetry = time.Time{}
	}
	tried, err := l.retry(ctx)
	if err != nil {
		return 0, err
	}
	applied, err := l.apply(ctx)
	if applied > 0 || tried {
		w.rate.add(applied)
		w.cfg.Applied(w.def.ID, l.position)
	}
	switch {
	case applied > 0:
		l.status = "running"
		return applied, err
	case err != nil:
		return 0, err
	case l.status == "halted":
		if err := w.heal(ctx, epoch, l.position); err != nil {
			return 0, err
		}
		l.status = "running"
	}
	if tried {
		return 0, errAgain
	}
	return 0, nil
}

// fail records why the next batch could not be applied, unless the database is merely away.
func (w *worker) fail(ctx context.Context, epoch, position int64, cause error) {
	w.complain(ctx, "applying events failed", cause)
	if w.cfg.Transient(cause) {
		return
	}
	if at, ok := errors.AsType[*EventError](cause); ok {
		position = at.Position
	}
	if err := w.recordHalt(ctx, epoch, position, cause); err != nil && !errors.Is(err, errFenced) {
		w.complain(ctx, "recording a failure failed", err)
	}
}

// complain logs an error of something that is tried again, unless the engine is just being stopped.
func (w *worker) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		w.cfg.Logger.WarnContext(ctx, what, "projection", w.def.ID, "error", err)
	}
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) { flag(nil).waitFor(ctx, d) }

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
