package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Projections returns the status of every projection, in the order of registration.
func (e *Engine) Projections(ctx context.Context) ([]Status, error) {
	first, head, err := e.bounds(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(e.order))
	for _, id := range e.order {
		st, err := e.workers[id].status(ctx, first, head)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// Projection returns the status of one projection, or ErrUnknownProjection.
func (e *Engine) Projection(ctx context.Context, id string) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	first, head, err := e.bounds(ctx)
	if err != nil {
		return Status{}, err
	}
	return w.status(ctx, first, head)
}

// bounds returns the first position from which on the log has every event, and its head.
func (e *Engine) bounds(ctx context.Context) (first, head int64, err error) {
	if first, err = e.cfg.Log.Begin(ctx); err == nil {
		head, err = e.cfg.Log.Head(ctx)
	}
	return first, head, err
}

func (w *worker) status(ctx context.Context, first, head int64) (Status, error) {
	st, err := w.state.readStatus(ctx)
	if err != nil {
		return Status{}, err
	}
	st.First = first
	if st.Owner == w.cfg.Instance {
		st.Rate = w.rate.perSecond()
	}
	if err := st.setLag(ctx, w.cfg.Log, head); err != nil {
		return Status{}, err
	}
	st.Replay, err = w.state.lastReplay(ctx)
	return st, err
}

// setLag fills in how far the projection is behind the log's head.
func (st *Status) setLag(ctx context.Context, log Log, head int64) error {
	if st.Position > head { // the log has grown since head was read, or was truncated
		var err error
		if head, err = log.Head(ctx); err != nil {
			return err
		}
	}
	st.Head, st.Lag = head, max(0, head-st.Position)
	if st.Lag == 0 {
		return nil
	}
	next, err := log.ReadAfter(ctx, st.Position, 1)
	if _, archived := errors.AsType[*ArchivedError](err); archived { // a new projection, which cannot be built: see Error
		return nil
	}
	if len(next) > 0 {
		st.LagSeconds = max(0, st.now.Sub(next[0].RecordedAt).Seconds())
	}
	return err
}

// StartReplay requests a rebuild of the projection from the whole log. The instance that owns the projection begins at once if
// it is this one, otherwise within Config.Poll or half a second, whichever is longer. The errors are ErrUnknownProjection,
// *ReplayRunningError, and *ArchivedError if the log no longer begins at position 1.
func (e *Engine) StartReplay(ctx context.Context, id string) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	if err := w.wholeLog(ctx); err != nil {
		return Replay{}, err
	}
	r, err := w.state.startReplay(ctx)
	w.wakeReplay.set()
	return r, err
}

// Replay returns a replay, or ErrUnknownProjection or ErrUnknownReplay.
func (e *Engine) Replay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.state.replay(ctx, replayID)
}

// Replays returns at most limit of the projection's latest replays and rollbacks, latest first; or ErrUnknownProjection.
func (e *Engine) Replays(ctx context.Context, id string, limit int) ([]Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return w.state.replays(ctx, limit)
}

// CancelReplay ends a running replay; the live generation is not touched. It returns ErrReplayFinished if the replay is already over.
func (e *Engine) CancelReplay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.state.cancelReplay(ctx, replayID)
}

// Pause stops the projection after the current batch, until Resume. Queries still return what was applied. A replay continues to
// build, but waits for Resume before its generation goes live.
func (e *Engine) Pause(ctx context.Context, id string) (Status, error) {
	return e.setPaused(ctx, id, true)
}

// Resume lets a paused projection continue. It does nothing to one that is not paused.
func (e *Engine) Resume(ctx context.Context, id string) (Status, error) {
	return e.setPaused(ctx, id, false)
}

func (e *Engine) setPaused(ctx context.Context, id string, paused bool) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	err := w.state.setPaused(ctx, paused)
	w.wake.set()
	if err != nil {
		return Status{}, err
	}
	return e.Projection(ctx, id)
}

// Rollback makes the previous generation the live one again, after it has caught up, so that no read goes backwards.
// It waits at most 15 s. If the rollback takes longer, as it does while the projection is paused, Rollback returns without an error,
// and the rollback is the Replay of the status. The errors are ErrUnknownProjection, ErrNoPreviousGeneration, *ReplayRunningError,
// and ErrRollbackFailed, which includes a rollback that was cancelled meanwhile.
func (e *Engine) Rollback(ctx context.Context, id string) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	if err := w.rollback(ctx); err != nil {
		return Status{}, err
	}
	return e.Projection(ctx, id)
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

// Failures returns at most limit failures after a position, in position order; or ErrUnknownProjection.
func (e *Engine) Failures(ctx context.Context, id string, after int64, limit int) ([]Failure, error) {
	w, ok := e.workers[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return w.state.failures(ctx, after, limit)
}

// RetryFailure requests that the stream parked at a position be drained: the instance that owns the projection, at once if it is this
// one, applies the stream's events in order until none waits or one fails. The errors are ErrUnknownProjection and
// ErrUnknownFailure.
func (e *Engine) RetryFailure(ctx context.Context, id string, position int64) (Failure, error) {
	w, ok := e.workers[id]
	if !ok {
		return Failure{}, ErrUnknownProjection
	}
	f, err := w.state.askRetry(ctx, position)
	if err == nil {
		w.retryAsked.Store(true)
		w.wake.set()
	}
	return f, err
}
