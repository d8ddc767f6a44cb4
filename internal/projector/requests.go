package projector

import (
	"context"

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

// StartReplay asks for a rebuild of the projection from the whole log; the engine that owns it begins at once. It
// returns ErrUnknownProjection, or *ReplayRunningError when one runs already.
func (e *Engine) StartReplay(ctx context.Context, id string) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.startReplay(ctx)
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
// its running replay. The errors are ErrUnknownProjection, ErrNoPreviousGeneration, ErrRollbackFailed, and
// *ReplayRunningError.
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
	return w.askRetry(ctx, position)
}
