package projector

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Projections returns how every projection stands, in the order of their registration.
func (e *Engine) Projections(ctx context.Context) ([]Status, error) {
	head, err := e.cfg.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(e.order))
	for _, id := range e.order {
		st, err := e.workers[id].status(ctx, head)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// Projection returns how one projection stands, or ErrUnknownProjection.
func (e *Engine) Projection(ctx context.Context, id string) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	head, err := e.cfg.Log.Head(ctx)
	if err != nil {
		return Status{}, err
	}
	return w.status(ctx, head)
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

// setLag fills in how far the projection is behind the log's head.
func (st *Status) setLag(ctx context.Context, log Log, head int64) error {
	if st.Position > head { // it has moved past the head that was read before it, or the log was truncated
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
	if len(next) > 0 {
		st.LagSeconds = max(0, time.Since(next[0].RecordedAt).Seconds())
	}
	return err
}

// StartReplay asks for a rebuild of the projection from the whole log; the engine that owns it begins at once. It
// returns ErrUnknownProjection, or *ReplayRunningError when one runs already.
func (e *Engine) StartReplay(ctx context.Context, id string) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	r, err := w.state.startReplay(ctx)
	w.wakeReplay.set()
	return r, err
}

// Replay returns how a replay stands, or ErrUnknownProjection or ErrUnknownReplay.
func (e *Engine) Replay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.state.replay(ctx, replayID)
}

// Replays returns the projection's last replays and rollbacks, at most limit, the last one first; or
// ErrUnknownProjection.
func (e *Engine) Replays(ctx context.Context, id string, limit int) ([]Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return w.state.replays(ctx, limit)
}

// CancelReplay ends a running replay; the live generation is not touched. It returns ErrReplayFinished when the replay
// is over already.
func (e *Engine) CancelReplay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.state.cancelReplay(ctx, replayID)
}

// Pause stops the projection after the batch it is in, until Resume. Queries go on answering as of then. A replay
// goes on building, but waits for Resume before its generation goes live.
func (e *Engine) Pause(ctx context.Context, id string) (Status, error) {
	return e.setPaused(ctx, id, true)
}

// Resume lets a paused projection go on; one that is not paused is left alone.
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
// It waits for that for 15 s at most; after that, as when the projection is paused, the status names the rollback as
// its running replay. The errors are ErrUnknownProjection, ErrNoPreviousGeneration, *ReplayRunningError, and
// ErrRollbackFailed, also when the rollback is cancelled meanwhile.
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

// Failures returns at most limit failures after a position, in the order of their positions; or ErrUnknownProjection.
func (e *Engine) Failures(ctx context.Context, id string, after int64, limit int) ([]Failure, error) {
	w, ok := e.workers[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return w.state.failures(ctx, after, limit)
}

// RetryFailure asks for the stream that is parked at a position to be drained: its events are applied in order, until
// none waits or one fails. The instance that owns the projection does it, at once when it is this one. The errors are
// ErrUnknownProjection and ErrUnknownFailure.
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
