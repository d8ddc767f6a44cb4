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
	// memoryRunnerPause is how long memoryRunner rests after what was less than a batch, so that following the log in memory costs
	// little while every commit wakes it. While it has far to go it rests for as long as it has worked, so that it takes
	// half a core at most.
	memoryRunnerPause = 20 * time.Millisecond

	// maxReplays is how many replays of a projection in memory are remembered.
	maxReplays = 50
)

// memoryRunner follows the log with a projection in memory. Each instance has its own, so that there is no lease, and a
// replay is known to the instance that was asked for it.
type memoryRunner struct {
	cfg  *Config
	def  *Projection
	wake signal
	rate meter

	next       any // the model that a replay builds, touched by run alone
	nextAt     Checkpoint
	nextReplay uuid.UUID

	mu       sync.Mutex
	st       Status   // what a Status needs of it; its position is the memory's
	requests []Replay // the last one first; only that one may be running
}

func newMemoryRunner(cfg *Config, def *Projection) *memoryRunner {
	return &memoryRunner{cfg: cfg, def: def, wake: newSignal(), st: Status{
		ID: def.ID, Version: def.Version, State: Running, Generation: 1, Owner: cfg.Instance, UpdatedAt: time.Now(),
	}}
}

func (k *memoryRunner) wakeUp() { k.wake.set() }

// run follows the log, and builds what replays ask for beside it, until ctx ends.
func (k *memoryRunner) run(ctx context.Context) error {
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
			sleep(ctx, min(100*time.Millisecond<<min(failures, 6), k.cfg.Lease/3))
		case n == 0:
			failures = 0
			k.wake.wait(ctx, k.cfg.Poll)
		case n < k.cfg.Batch:
			failures = 0
			sleep(ctx, memoryRunnerPause)
		default:
			failures = 0
			sleep(ctx, time.Since(began))
		}
	}
	return nil
}

// follow applies the next batch to the model that is read. When the log was truncated the model is thrown away and built again
// from there on, as at the start.
func (k *memoryRunner) follow(ctx context.Context) (int, error) {
	k.mu.Lock()
	paused := k.st.State == Paused
	k.mu.Unlock()
	m := k.def.memory
	if paused {
		return 0, nil
	}
	began := time.Now()
	// Nobody else moves it.
	_, n, err := k.apply(ctx, m.model, m.at, m)
	if errors.Is(err, ErrLogTruncated) {
		k.cfg.Logger.WarnContext(ctx, "the log was truncated; rebuilding the model", "projection", k.def.ID, "error", err)
		m.mu.Lock()
		m.model, m.at = k.def.memory.newModel(), Checkpoint{}
		m.mu.Unlock()
		_, n, err = k.apply(ctx, m.model, m.at, m)
	}
	if err != nil {
		return n, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.st.State == Halted {
		k.st.State = Running
	}
	k.st.Error, k.st.ErrorPosition = "", 0
	if n > 0 {
		k.rate.add(int64(n))
		k.cfg.Observe(k.def.ID, int64(n), time.Since(began))
		k.st.UpdatedAt = time.Now()
	}
	return n, nil
}

// apply reads a batch and applies it to a model, that of shared under its lock, and returns where the model is then.
func (k *memoryRunner) apply(ctx context.Context, model any, at Checkpoint, shared *memory) (Checkpoint, int, error) {
	var log Log = k.cfg.tail
	if shared == nil { // a replay
		log = k.cfg.Log
	}
	events, err := readAfter(ctx, log, at, k.cfg.Batch)
	if err != nil || len(events) == 0 {
		return at, 0, err
	}
	if shared != nil {
		shared.mu.Lock()
		defer func() { shared.at = at; shared.mu.Unlock() }()
	}
	for i := range events {
		e := &events[i]
		if want := at.Position + 1; e.Position != want {
			return at, i, &EventError{Position: want, Err: fmt.Errorf("%w: position %d follows on %d", ErrGap, e.Position, at.Position)}
		}
		data, err := k.cfg.decoded(e)
		if err == nil {
			err = k.def.apply(model, eventOf(e), data)
		}
		if err != nil {
			return at, i, &EventError{Position: e.Position, Err: err}
		}
		at = Checkpoint{e.Position, e.EventID}
	}
	return at, len(events), nil
}

// build takes a replay one batch further, and puts its model in place when it has reached the one that is read.
func (k *memoryRunner) build(ctx context.Context) (int, error) {
	k.mu.Lock()
	id := uuid.Nil
	if len(k.requests) > 0 && k.requests[0].State == ReplayRunning {
		id = k.requests[0].ID
	}
	k.mu.Unlock()
	if id != k.nextReplay {
		k.nextReplay, k.next, k.nextAt = id, nil, Checkpoint{}
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
		k.end(id, ReplayFailed, err.Error())
		return n, nil
	}
	k.nextAt = at
	k.swap(id, n == 0)
	return n, nil
}

// swap notes how far a replay is, and ends it when it has arrived, or when the log ends before it could.
func (k *memoryRunner) swap(id uuid.UUID, atEnd bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &k.requests[0]
	if r.ID != id || r.State != ReplayRunning { // cancelled meanwhile
		return
	}
	r.Processed = min(k.nextAt.Position, r.Total)
	if atEnd && r.Processed < r.Total {
		r.State, r.Error, r.FinishedAt = ReplayFailed, fmt.Sprintf("%v: it ends at %d and held %d", ErrLogTruncated, r.Processed, r.Total), time.Now()
		return
	}
	m := k.def.memory
	if k.nextAt.Position < max(m.at.Position, r.Total) || k.st.State == Paused {
		return
	}
	m.mu.Lock()
	m.model, m.at = k.next, k.nextAt
	m.mu.Unlock()
	r.State, r.FinishedAt = ReplayCompleted, time.Now()
	k.st.Generation, k.st.UpdatedAt = r.Generation, r.FinishedAt
}

// end ends a replay if it is running.
func (k *memoryRunner) end(id uuid.UUID, state ReplayState, reason string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.requests) == 0 || k.requests[0].ID != id || k.requests[0].State != ReplayRunning {
		return false
	}
	r := &k.requests[0]
	r.State, r.Error, r.FinishedAt = state, reason, time.Now()
	return true
}

func (k *memoryRunner) fail(ctx context.Context, cause error) {
	if ctx.Err() != nil {
		return
	}
	k.cfg.Logger.WarnContext(ctx, "applying events failed; retrying", "projection", k.def.ID, "error", cause)
	if k.cfg.Transient(cause) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.st.Failures++
	if k.st.State == Running {
		k.st.State = Halted
	}
	k.st.Error, k.st.ErrorPosition = cause.Error(), k.def.memory.at.Position+1
	if at, ok := errors.AsType[*EventError](cause); ok {
		k.st.ErrorPosition = at.Position
	}
}

func (k *memoryRunner) status(ctx context.Context, head int64) (Status, error) {
	k.mu.Lock()
	st := k.st
	if len(k.requests) > 0 {
		st.Replay = new(withRate(k.requests[0]))
	}
	k.mu.Unlock()
	k.def.memory.mu.RLock()
	st.Position = k.def.memory.at.Position
	k.def.memory.mu.RUnlock()
	st.Rate = k.rate.perSecond()
	return st, st.setLag(ctx, k.cfg.Log, head)
}

func (k *memoryRunner) setPaused(_ context.Context, paused bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case paused:
		k.st.State = Paused
	case k.st.State == Paused:
		k.st.State = Running
	}
	k.wake.set()
	return nil
}

func (k *memoryRunner) startReplay(ctx context.Context) (Replay, error) {
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
	if len(k.requests) > 0 {
		if k.requests[0].State == ReplayRunning {
			return Replay{}, &ReplayRunningError{Replay: withRate(k.requests[0])}
		}
		generation = k.requests[0].Generation
	}
	r := Replay{
		ID: id, Projection: k.def.ID, Kind: KindReplay, State: ReplayRunning, Total: head, Generation: generation + 1, StartedAt: time.Now().UTC(),
	}
	k.requests = append([]Replay{r}, k.requests[:min(len(k.requests), maxReplays-1)]...)
	k.wake.set()
	return r, nil
}

func (k *memoryRunner) replay(_ context.Context, id uuid.UUID) (Replay, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.requests {
		if r.ID == id {
			return withRate(r), nil
		}
	}
	return Replay{}, ErrUnknownReplay
}

func (k *memoryRunner) replays(_ context.Context, limit int) ([]Replay, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]Replay, 0, len(k.requests))
	for _, r := range k.requests[:min(limit, len(k.requests))] {
		all = append(all, withRate(r))
	}
	return all, nil
}

func (k *memoryRunner) cancelReplay(ctx context.Context, id uuid.UUID) (Replay, error) {
	cancelled := k.end(id, ReplayCancelled, "")
	r, err := k.replay(ctx, id)
	if err == nil && !cancelled {
		err = ErrReplayFinished
	}
	return r, err
}

// failures are none that could be retried: a projection in memory halts at an event that it cannot apply.
func (k *memoryRunner) failures(context.Context, int64, int) ([]Failure, error) { return nil, nil }

func (k *memoryRunner) askRetry(context.Context, int64) (Failure, error) {
	return Failure{}, ErrUnknownFailure
}

// withRate is a replay with its speed so far.
func withRate(r Replay) Replay {
	until := r.FinishedAt
	if until.IsZero() {
		until = time.Now()
	}
	r.setRate(until.Sub(r.StartedAt).Seconds())
	return r
}

// rollback has nothing to go back to: a model that was replaced is gone.
func (k *memoryRunner) rollback(context.Context) error { return ErrNoPreviousGeneration }
