package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// flipDistance is how many events a generation may be behind the live one when the flip is tried: they are applied while
// the live projection waits.
const flipDistance = 1_000

// errPaused says that a generation is complete but may not go live, because the projection is paused.
var errPaused = errors.New("the projection is paused")

// catchUp applies the log up to a position at least, and until what may be missing is small enough for the flip.
func (a *applier) catchUp(ctx context.Context, total int64) error {
	for {
		n, err := a.applyNext(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errRetryNow):
		case err != nil:
			return err
		case n == 0 && a.Position < total:
			return &EventError{Position: a.Position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, a.Position, total)}
		case n <= flipDistance && a.Position >= total:
			return nil
		}
	}
}

// flip applies the last events to the new generation while the live one stands still, and makes it the live one. The
// position never goes back: a reader that has seen position N on the old generation sees at least N on the new; and
// so for each account, since no stream may be parked further back. The error is errRetryNow when the applier has to be
// caught up once more.
func (w *worker) flip(ctx context.Context, epoch int64, r runningReplay, a *applier) error {
	a.previous = nil
	reached := *a // what the transaction makes of it, if it is committed
	err := w.state.begin(ctx, func(tx pgx.Tx) error {
		live, err := w.state.lockLive(ctx, tx, epoch)
		if err != nil {
			return err
		}
		if live.status == Paused {
			return errPaused
		}
		truncated, err := reached.reachLive(ctx, tx, live)
		if err != nil {
			return err
		}
		return w.state.flip(ctx, tx, epoch, r, reached.Checkpoint, truncated)
	})
	if err == nil {
		w.reportCompleted(ctx, r, &reached)
	}
	return err
}

// reachLive takes the applier as far as the live generation is, on all streams; truncated says that there is no need, since
// what the live one has applied is not in the log any more.
func (a *applier) reachLive(ctx context.Context, tx pgx.Tx, live state) (truncated bool, err error) {
	_, err = readAfter(ctx, a.cfg.Log, live.at, 1)
	switch {
	case errors.Is(err, ErrLogTruncated):
		return true, nil
	case err != nil:
		return false, err
	}
	if err := a.applyInTx(ctx, tx, live.at.Position); err != nil {
		return false, err
	}
	return false, a.state.checkParked(ctx, tx, a.generation, live.generation)
}

// applyInTx applies what the live generation has and this one has not yet, in the transaction of the flip. What cannot be
// applied is left to the next steps, which know how to deal with it.
func (a *applier) applyInTx(ctx context.Context, tx pgx.Tx, position int64) error {
	for a.Position < position {
		events, err := readAfter(ctx, a.cfg.Log, a.Checkpoint, int(min(position-a.Position, int64(a.maxLimit))))
		if err != nil {
			return err
		}
		b, foldErr := a.fold(events)
		switch {
		case len(events) == 0:
			return &EventError{Position: a.Position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, a.Position, position)}
		case foldErr != nil:
			return errRetryNow
		}
		if err := a.write(ctx, tx, b); err != nil {
			if a.cfg.mayBlameEvent(err) {
				return errRetryNow
			}
			return err
		}
		a.advanced(b)
	}
	return nil
}

// flipReplayInStore is flip for a Store: first the store is flipped and then the row. If the process dies in between, the next
// owner finds the replay running and does both again.
func (w *worker) flipReplayInStore(ctx context.Context, epoch int64, r runningReplay, a *applier) error {
	w.state.flipping.Lock()
	defer w.state.flipping.Unlock()
	live, ok, err := w.state.readState(ctx, readSQL, w.def.ID)
	switch {
	case err != nil:
		return err
	case !ok || live.epoch != epoch:
		return errFenced
	case live.status == Paused:
		return errPaused
	}
	at, err := w.def.store.Checkpoint(ctx, epoch, live.generation)
	if err != nil {
		return a.storeError(err)
	}
	_, err = readAfter(ctx, w.cfg.Log, at, 1)
	truncated := errors.Is(err, ErrLogTruncated)
	if !truncated {
		if err == nil {
			err = a.catchUp(ctx, max(r.total, at.Position))
		}
		if err != nil {
			return err
		}
	}
	if err := w.def.store.Flip(ctx, epoch, r.generation, truncated); err != nil {
		return a.storeError(err)
	}
	err = w.state.begin(ctx, func(tx pgx.Tx) error {
		if live, err := w.state.lockLive(ctx, tx, epoch); err != nil {
			return err
		} else if live.status == Paused {
			return errPaused
		}
		// As after a log was truncated, there is nothing to roll back to, and the store has seen to it that nothing goes back.
		return w.state.flip(ctx, tx, epoch, r, a.Checkpoint, true)
	})
	if err == nil {
		w.reportCompleted(ctx, r, a)
	}
	return err
}

// reportCompleted reports a completed replay.
func (w *worker) reportCompleted(ctx context.Context, r runningReplay, a *applier) {
	w.cfg.Logger.InfoContext(ctx, "replay completed", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", a.Position, "parked", len(a.parked))
	w.wake.set()
	w.cfg.Applied(w.def.ID, a.Position)
}

// flipStore makes the generation of an applier that has caught up with the log the live one of the store. It does so once
// after each look at the store's checkpoint. A store that refuses, because the generation is behind the one it has live or
// because another owner has taken over, is asked again at the next poll.
func (w *worker) flipStore(ctx context.Context, a *applier) error {
	if w.def.store == nil || a.storeFlipped {
		return nil
	}
	err := a.storeError(w.def.store.Flip(ctx, a.epoch, a.generation, w.truncated))
	if err == nil {
		w.truncated, a.storeFlipped = false, true
	} else if errors.Is(err, errFenced) {
		err = nil
	}
	return err
}
