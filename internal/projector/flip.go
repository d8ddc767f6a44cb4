package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// flipDistance is about how many events a generation may be behind when the flip is tried: the flip applies them while the live
// generation waits.
const flipDistance = 1_000

// errPaused means that a generation may not go live because the projection is paused.
var errPaused = errors.New("the projection is paused")

// catchUp applies the log at least up to position total, and until the rest is small enough for the flip.
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
			return &EventError{Position: a.Position + 1, Err: fmt.Errorf("%w: it ends at position %d, and once reached %d", ErrGap, a.Position, total)}
		case n <= flipDistance && a.Position >= total:
			return nil
		}
	}
}

// flip applies the last events to the new generation while the live one is locked, and makes it the live one. The position never
// goes back: a reader that has seen position N in the old generation sees at least N in the new one. That holds for each account,
// since no stream may be parked at an earlier event than in the live one. On errRetryNow, the applier has to catch up once more.
func (w *worker) flip(ctx context.Context, epoch int64, r runningReplay, a *applier) error {
	a.previous = nil
	reached := *a // a copy, because the transaction may be rolled back
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

// reachLive applies what the live generation has applied, and checks that no stream is parked further back. If the log no longer has
// the event at the live checkpoint, it does neither and returns truncated.
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

// applyInTx applies the events that the live generation is ahead, in the transaction of the flip. If one cannot be applied, it returns
// errRetryNow: the next catchUp retries or parks it.
func (a *applier) applyInTx(ctx context.Context, tx pgx.Tx, position int64) error {
	for a.Position < position {
		events, err := readAfter(ctx, a.cfg.Log, a.Checkpoint, int(min(position-a.Position, int64(a.maxLimit))))
		if err != nil {
			return err
		}
		b, foldErr := a.fold(events)
		switch {
		case len(events) == 0:
			return &EventError{Position: a.Position + 1, Err: fmt.Errorf("%w: it ends at position %d, and once reached %d", ErrGap, a.Position, position)}
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

// flipReplayInStore is flip for a read model in a Store: it flips the store first and then the row. If the process dies in between, the
// next owner finds the replay running and does both again.
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
		// As after a truncation there is nothing to roll back to. The store has already checked that the position does not go back.
		return w.state.flip(ctx, tx, epoch, r, a.Checkpoint, true)
	})
	if err == nil {
		w.reportCompleted(ctx, r, a)
	}
	return err
}

// reportCompleted logs a completed replay and wakes those who wait for the projection.
func (w *worker) reportCompleted(ctx context.Context, r runningReplay, a *applier) {
	w.cfg.Logger.InfoContext(ctx, "replay completed", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", a.Position, "parked", len(a.parked))
	w.wake.set()
	w.cfg.Applied(w.def.ID, a.Position)
}

// flipStore makes the applier's generation, which has caught up with the log, the live one in the store. It succeeds once for each time
// the store's checkpoint was read. If the store refuses, because the generation is behind its live one or another owner has taken
// over, flipStore asks again at the next poll.
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
