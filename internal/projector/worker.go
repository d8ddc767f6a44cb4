package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"passbook/internal/eventstore"
)

// worker applies one projection while it holds the lease, and runs its replays.
type worker struct {
	cfg *Config
	def *Projection

	wake       flag // the log has grown
	wakeReplay flag // a replay was asked for
	rate       meter

	limit int // events in the next batch; below cfg.Batch while an event that cannot be written is being found
}

func newWorker(cfg *Config, def *Projection) *worker {
	return &worker{cfg: cfg, def: def, wake: newFlag(), wakeReplay: newFlag(), limit: cfg.Batch}
}

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
		w.cfg.Logger.InfoContext(ctx, "projection owned", "projection", w.def.ID, "epoch", st.epoch, "position", st.position)
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
	w.tail(ctx, st)
	cancel()
	replays.Wait()

	release, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := w.releaseLease(release, st.epoch); err != nil {
		w.complain(release, "giving up the lease failed; it runs out by itself", err)
	}
}

// tail applies batch after batch, and returns when the lease is lost or ctx ends. A handler's error halts the
// projection, which then tries again at growing intervals until the cause is gone.
func (w *worker) tail(ctx context.Context, st state) {
	failures := 0
	renewAt := time.Now().Add(w.cfg.Lease / 3)
	for ctx.Err() == nil {
		if time.Now().After(renewAt) || st.status == "" {
			next, ok, err := w.renewLease(ctx, st.epoch)
			switch {
			case err != nil:
				w.complain(ctx, "renewing the lease failed", err)
				pause(ctx, w.cfg.Lease/10)
				continue
			case !ok:
				w.cfg.Logger.WarnContext(ctx, "projection lost to another instance", "projection", w.def.ID, "epoch", st.epoch)
				return
			}
			st, renewAt = next, time.Now().Add(w.cfg.Lease/3)
		}
		if st.status == "paused" {
			w.wake.waitFor(ctx, w.poll())
			st.status = "" // read it again
			continue
		}
		applied, err := w.step(ctx, &st)
		switch {
		case errors.Is(err, errFenced):
			st.status = ""
		case errors.Is(err, errNarrowed):
		case err != nil && ctx.Err() == nil:
			failures++
			st.status = "halted"
			w.fail(ctx, st, err)
			pause(ctx, min(100*time.Millisecond<<min(failures, 6), w.cfg.Lease/3))
		case applied == 0:
			failures = 0
			w.wake.waitFor(ctx, w.poll())
		default:
			failures = 0
			renewAt = time.Now().Add(w.cfg.Lease / 3)
		}
	}
}

// poll is how long to wait without having been woken: not so long that the lease would run out.
func (w *worker) poll() time.Duration { return min(w.cfg.Poll, w.cfg.Lease/3) }

// step applies the next batch, if there is one, and answers how many events it was. With an event that cannot be
// folded, those before it are applied, and the error is that event's.
func (w *worker) step(ctx context.Context, st *state) (int64, error) {
	events, err := w.cfg.Log.ReadAfter(ctx, st.position, w.limit)
	if err != nil {
		return 0, err
	}
	if len(events) == 0 {
		if st.status == "halted" {
			err = w.heal(ctx, *st)
			st.status = "" // read it again
		}
		return 0, err
	}
	b, foldErr := w.fold(events, st.position)
	if b.count == 0 {
		return 0, foldErr
	}
	if err := w.commit(ctx, *st, b); err != nil {
		return 0, w.narrow(ctx, b, err)
	}
	st.position, st.status = b.last, "running"
	w.limit = min(2*w.limit, w.cfg.Batch)
	w.rate.add(b.count)
	w.cfg.Applied(w.def.ID, b.last)
	return b.count, foldErr
}

// errNarrowed says that a batch could not be written and that a smaller one is to be tried at once.
var errNarrowed = errors.New("a smaller batch is tried")

// narrow makes the next batch smaller when one could not be written for a reason that may lie in one of its events,
// down to the event itself, so that all before it are applied and the error names it.
func (w *worker) narrow(ctx context.Context, b *batch, err error) error {
	if ctx.Err() != nil || errors.Is(err, errFenced) || w.cfg.Transient(err) {
		return err
	}
	if b.count == 1 {
		w.limit = 1
		return &EventError{Position: b.last, Err: err}
	}
	w.limit = int(b.count / 2)
	return errNarrowed
}

// EventError says at which event a projection stopped, and why.
type EventError struct {
	Position int64
	Err      error
}

func (e *EventError) Error() string {
	return fmt.Sprintf("event at position %d: %v", e.Position, e.Err)
}

func (e *EventError) Unwrap() error { return e.Err }

// ErrGap says that the log does not go on where it should: it was damaged, or changed by hand.
var ErrGap = errors.New("the log has a gap")

// fold decodes and folds events, asserting that they follow on position after without a gap. With an error, which is
// an *EventError, the batch holds the events before that one.
func (w *worker) fold(events []eventstore.Event, after int64) (*batch, error) {
	b := &batch{fold: w.def.newFold(), last: after}
	for i := range events {
		e := &events[i]
		if e.Position != b.last+1 {
			return b, &EventError{Position: b.last + 1, Err: fmt.Errorf("%w: position %d follows on %d", ErrGap, e.Position, b.last)}
		}
		data, err := w.cfg.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			return b, &EventError{Position: e.Position, Err: err}
		}
		at := Event{Position: e.Position, StreamID: e.StreamID, Version: e.Version, EventID: e.EventID, RecordedAt: e.RecordedAt}
		if err := w.def.apply(b.fold, at, data); err != nil {
			return b, &EventError{Position: e.Position, Err: err}
		}
		b.last, b.lastID = e.Position, e.EventID
		b.count++
	}
	return b, nil
}

// fail records why a batch could not be applied, unless the database is merely away.
func (w *worker) fail(ctx context.Context, st state, cause error) {
	w.complain(ctx, "applying events failed", cause)
	if w.cfg.Transient(cause) {
		return
	}
	position := st.position + 1
	if at, ok := errors.AsType[*EventError](cause); ok {
		position = at.Position
	}
	if err := w.recordFailure(ctx, st, position, cause); err != nil && !errors.Is(err, errFenced) {
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
