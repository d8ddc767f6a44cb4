package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// keeperPause is how long a keeper rests after what was less than a batch, so that following the log in memory costs
	// little while every commit wakes it. While it has far to go it rests for as long as it has worked, so that it takes
	// half a core at most.
	keeperPause = 20 * time.Millisecond
	// keptReplays is how many replays of a projection in memory are remembered.
	keptReplays = 50
)

// keeper follows the log with a projection in memory. Each instance has its own, so that there is no lease, and a
// replay is known to the instance that was asked for it.
type keeper struct {
	cfg  *Config
	def  *Projection
	wake flag
	rate meter

	next       any // the model that a replay builds, touched by run alone
	nextAt     point
	nextReplay uuid.UUID

	mu      sync.Mutex
	st      Status   // what a Status needs of it; its position is the memory's
	replays []Replay // the last one first; only that one may be running
}

func newKeeper(cfg *Config, def *Projection) *keeper {
	return &keeper{cfg: cfg, def: def, wake: newFlag(), st: Status{
		ID: def.ID, Version: def.Version, State: "running", Generation: 1, Owner: cfg.Instance, UpdatedAt: time.Now(),
	}}
}

func (k *keeper) wakeUp() { k.wake.raise() }

// run follows the log, and builds what replays ask for beside it, until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		n, err := k.follow(ctx)
		if err == nil {
			var built int
			built, err = k.build(ctx)
			n = max(n, built)
		}
		switch {
		case err != nil:
			failures++
			k.fail(ctx, err)
			pause(ctx, min(100*time.Millisecond<<min(failures, 6), k.cfg.Lease/3))
		case n == 0:
			failures = 0
			k.wake.waitFor(ctx, k.cfg.Poll)
		case n < k.cfg.Batch:
			failures = 0
			pause(ctx, keeperPause)
		default:
			failures = 0
			pause(ctx, time.Since(began))
		}
	}
	return nil
}

// follow applies the next batch to the model that is read. When the log has gone back the model is thrown away and built again
// from there on, as at the start.
func (k *keeper) follow(ctx context.Context) (int, error) {
	k.mu.Lock()
	paused := k.st.State == "paused"
	k.mu.Unlock()
	m := k.def.memory
	if paused {
		return 0, nil
	}
	began := time.Now()
	// Nobody else moves it.
	_, n, err := k.apply(ctx, m.model, m.at, m)
	if errors.Is(err, ErrLogWentBack) {
		k.cfg.Logger.WarnContext(ctx, "built again from the log", "projection", k.def.ID, "error", err)
		m.mu.Lock()
		m.model, m.at = k.def.memory.newModel(), point{}
		m.mu.Unlock()
		_, n, err = k.apply(ctx, m.model, m.at, m)
	}
	if err != nil {
		return n, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.st.State == "halted" {
		k.st.State = "running"
	}
	k.st.Error, k.st.ErrorPosition = "", 0
	if n > 0 {
		k.rate.add(int64(n))
		k.cfg.Observe(k.def.ID, int64(n), time.Since(began))
		k.st.UpdatedAt = time.Now()
	}
	return n, nil
}

// apply reads a batch and applies it to a model, that of shared under its lock, and answers where the model is then.
func (k *keeper) apply(ctx context.Context, model any, at point, shared *memory) (point, int, error) {
	var log Log = k.cfg.tail
	if shared == nil { // a replay
		log = k.cfg.Log
	}
	events, err := readOn(ctx, log, at, k.cfg.Batch)
	if err != nil || len(events) == 0 {
		return at, 0, err
	}
	if shared != nil {
		shared.mu.Lock()
		defer func() { shared.at = at; shared.mu.Unlock() }()
	}
	for i := range events {
		e := &events[i]
		if want := at.position + 1; e.Position != want {
			return at, i, &EventError{Position: want, Err: fmt.Errorf("%w: position %d follows on %d", ErrGap, e.Position, at.position)}
		}
		data, err := k.cfg.decoded(e)
		if err == nil {
			err = k.def.apply(model, eventOf(e), data)
		}
		if err != nil {
			return at, i, &EventError{Position: e.Position, Err: err}
		}
		at = point{e.Position, e.EventID}
	}
	return at, len(events), nil
}

// build takes a replay one batch further, and puts its model in place when it has reached the one that is read.
func (k *keeper) build(ctx context.Context) (int, error) {
	k.mu.Lock()
	id := uuid.Nil
	if len(k.replays) > 0 && k.replays[0].State == "running" {
		id = k.replays[0].ID
	}
	k.mu.Unlock()
	if id != k.nextReplay {
		k.nextReplay, k.next, k.nextAt = id, nil, point{}
		if id != uuid.Nil {
			k.next = k.def.memory.newModel()
		}
	}
	if id == uuid.Nil {
		return 0, nil
	}
	at, n, err := k.apply(ctx, k.next, k.nextAt, nil)
	switch {
	case err == nil:
	case k.cfg.Transient(err) || ctx.Err() != nil: // nothing was read
		return 0, err
	default:
		k.cfg.Logger.WarnContext(ctx, "replaying failed", "projection", k.def.ID, "error", err)
		k.end(id, "failed", err.Error())
		return n, nil
	}
	k.nextAt = at
	k.swap(id, n == 0)
	return n, nil
}

// swap notes how far a replay is, and ends it when it has arrived, or when the log ends before it could.
func (k *keeper) swap(id uuid.UUID, atEnd bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &k.replays[0]
	if r.ID != id || r.State != "running" { // cancelled meanwhile
		return
	}
	r.Processed = min(k.nextAt.position, r.Total)
	if atEnd && r.Processed < r.Total {
		r.State, r.Error, r.FinishedAt = "failed", fmt.Sprintf("%v: it ends at %d and held %d", ErrLogWentBack, r.Processed, r.Total), time.Now()
		return
	}
	m := k.def.memory
	if k.nextAt.position < max(m.at.position, r.Total) || k.st.State == "paused" {
		return
	}
	m.mu.Lock()
	m.model, m.at = k.next, k.nextAt
	m.mu.Unlock()
	r.State, r.FinishedAt = "completed", time.Now()
	k.st.Generation, k.st.UpdatedAt = r.Generation, r.FinishedAt
}

// end ends a replay if it is running.
func (k *keeper) end(id uuid.UUID, state, reason string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.replays) == 0 || k.replays[0].ID != id || k.replays[0].State != "running" {
		return false
	}
	r := &k.replays[0]
	r.State, r.Error, r.FinishedAt = state, reason, time.Now()
	return true
}

func (k *keeper) fail(ctx context.Context, cause error) {
	if ctx.Err() != nil {
		return
	}
	k.cfg.Logger.WarnContext(ctx, "applying events failed", "projection", k.def.ID, "error", cause)
	if k.cfg.Transient(cause) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.st.Failures++
	if k.st.State == "running" {
		k.st.State = "halted"
	}
	k.st.Error, k.st.ErrorPosition = cause.Error(), k.def.memory.at.position+1
	if at, ok := errors.AsType[*EventError](cause); ok {
		k.st.ErrorPosition = at.Position
	}
}

func (k *keeper) status(ctx context.Context, head int64) (Status, error) {
	k.mu.Lock()
	st := k.st
	if len(k.replays) > 0 {
		st.Replay = new(paced(k.replays[0]))
	}
	k.mu.Unlock()
	k.def.memory.mu.RLock()
	st.Position = k.def.memory.at.position
	k.def.memory.mu.RUnlock()
	st.Rate = k.rate.perSecond()
	return st, st.behind(ctx, k.cfg.Log, head)
}

func (k *keeper) setPaused(_ context.Context, paused bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case paused:
		k.st.State = "paused"
	case k.st.State == "paused":
		k.st.State = "running"
	}
	k.wake.raise()
	return nil
}

func (k *keeper) startReplay(ctx context.Context) (Replay, error) {
	head, err := k.cfg.Log.Head(ctx)
	if err != nil {
		return Replay{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Replay{}, fmt.Errorf("projector: replay id: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	generation := k.st.Generation
	if len(k.replays) > 0 {
		if k.replays[0].State == "running" {
			return Replay{}, &ReplayRunningError{Replay: paced(k.replays[0])}
		}
		generation = k.replays[0].Generation
	}
	r := Replay{
		ID: id, Projection: k.def.ID, Kind: "replay", State: "running", Total: head, Generation: generation + 1, StartedAt: time.Now().UTC(),
	}
	k.replays = append([]Replay{r}, k.replays[:min(len(k.replays), keptReplays-1)]...)
	k.wake.raise()
	return r, nil
}

func (k *keeper) replayOf(_ context.Context, id uuid.UUID) (Replay, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.replays {
		if r.ID == id {
			return paced(r), nil
		}
	}
	return Replay{}, ErrUnknownReplay
}

func (k *keeper) history(_ context.Context, limit int) ([]Replay, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Replay, 0, len(k.replays))
	for _, r := range k.replays[:min(limit, len(k.replays))] {
		all = append(all, paced(r))
	}
	return all, nil
}

func (k *keeper) cancelReplay(ctx context.Context, id uuid.UUID) (Replay, error) {
	cancelled := k.end(id, "cancelled", "")
	r, err := k.replayOf(ctx, id)
	if err == nil && !cancelled {
		err = ErrReplayFinished
	}
	return r, err
}

// rollback has nothing to go back to: a model that was replaced is gone.
func (k *keeper) rollback(context.Context) error { return ErrNoPreviousGeneration }

// failures are none that could be retried: a projection in memory halts at an event that it cannot apply.
func (k *keeper) failures(context.Context, int64, int) ([]Failure, error) { return nil, nil }

func (k *keeper) askRetry(context.Context, int64) (Failure, error) {
	return Failure{}, ErrUnknownFailure
}

// paced is a replay with its speed so far.
func paced(r Replay) Replay {
	until := r.FinishedAt
	if until.IsZero() {
		until = time.Now()
	}
	r.pace(until.Sub(r.StartedAt).Seconds())
	return r
}
