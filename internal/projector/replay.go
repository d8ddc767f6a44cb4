package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A replay builds the next generation of a projection beside the live one. It fixes a head H, folds the events 1..H,
// which can never change, in large chunks, each in one transaction with the replay's own checkpoint; then catches up
// with what was appended meanwhile; then flips the live generation in one short transaction. Killed at any point, it
// goes on from its checkpoint, on whichever instance owns the projection by then.

// A rollback is a replay that does not begin at the log's beginning: it takes the previous generation from where it
// was left to the live position, by the replay's own means, and flips. What was live is the previous generation then,
// so that a second rollback is the way forward again.

// flipDistance is how many events a generation may be behind the live one when the flip is tried: they are applied while
// the live projection waits.
const flipDistance = 1_000

// errPaused says that a generation is complete but may not go live, because the projection is paused.
var errPaused = errors.New("the projection is paused")

// runReplays runs the projection's replays, one after the other, until ctx ends: first of all the one that a grown code
// version asks for, during which the old generation serves.
func (w *worker) runReplays(ctx context.Context, epoch int64, grown bool) {
	for ctx.Err() == nil {
		if grown {
			_, err := w.state.startReplay(ctx)
			running, busy := errors.AsType[*ReplayRunningError](err)
			if err != nil && !busy {
				w.warn(ctx, "starting the replay for a new version failed; retrying", err)
				sleep(ctx, w.cfg.Lease/3)
				continue
			}
			// A rollback builds nothing: the replay is asked for again after it.
			grown = busy && running.Replay.Kind == KindRollback
		}
		r, ok, err := w.state.nextReplay(ctx)
		if err == nil && ok {
			err = w.runReplay(ctx, epoch, r)
		}
		switch {
		case err == nil && ok:
		case err == nil:
			w.wakeReplay.wait(ctx, max(w.cfg.Poll, 500*time.Millisecond))
		case errors.Is(err, errFenced), errors.Is(err, errPaused):
			// Paused, cancelled, or another instance owns the projection: nextReplay and the lease tell which.
			sleep(ctx, w.cfg.Poll)
		default:
			w.failReplay(ctx, r, err)
			sleep(ctx, w.cfg.Lease/3)
		}
	}
}

// failReplay ends a replay that can not be finished. One that only lost its database goes on later.
func (w *worker) failReplay(ctx context.Context, r rebuild, cause error) {
	w.warn(ctx, "replaying failed", cause)
	if ctx.Err() != nil || w.cfg.Transient(cause) || errors.Is(cause, errStore) || r.id == uuid.Nil {
		return
	}
	if err := w.state.failReplay(ctx, r.id, cause); err != nil {
		w.warn(ctx, "recording a failed replay failed", err)
	}
}

// runReplay takes a replay from its checkpoint to the flip.
func (w *worker) runReplay(ctx context.Context, epoch int64, r rebuild) error {
	if r.version < w.def.Version && r.kind != KindRollback {
		if err := w.state.restartReplay(ctx, epoch, &r); err != nil {
			return err
		}
	}
	row := replayRow{w.state, epoch, r}
	if r.at.Position == 0 && r.kind != KindRollback {
		if err := w.state.deleteOld(ctx, row); err != nil {
			return err
		}
	}
	w.cfg.Logger.InfoContext(ctx, "replaying", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", r.at.Position, "total", r.total)
	a := newApplier(w.state, w.cfg.ReplayBatch)
	a.row, a.epoch, a.generation, a.Checkpoint = row, epoch, r.generation, r.at
	reader := &prefetcher{log: w.cfg.Log}
	defer reader.close()
	a.read = reader.readAfter
	if err := a.load(ctx); err != nil {
		return err
	}
	if err := a.align(ctx); err != nil {
		return err
	}
	flip := w.flip
	if w.def.store != nil {
		flip = w.flipInStore
	}
	for {
		if err := a.catchUp(ctx, r.total); err != nil {
			return err
		}
		if err := a.retryAll(ctx); err != nil {
			return err
		}
		if err := flip(ctx, epoch, r, a); !errors.Is(err, errRetryNow) {
			return err
		}
	}
}

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
func (w *worker) flip(ctx context.Context, epoch int64, r rebuild, a *applier) error {
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
		lost, err := reached.reachLive(ctx, tx, live)
		if err != nil {
			return err
		}
		return w.state.flip(ctx, tx, epoch, r, reached.Checkpoint, lost)
	})
	if err == nil {
		w.flipped(ctx, r, &reached)
	}
	return err
}

// flipped reports a completed replay.
func (w *worker) flipped(ctx context.Context, r rebuild, a *applier) {
	w.cfg.Logger.InfoContext(ctx, "replay completed", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", a.Position, "parked", len(a.parked))
	w.wake.set()
	w.cfg.Applied(w.def.ID, a.Position)
}

// reachLive takes the applier as far as the live generation is, on all streams; lost says that there is no need, since what the
// live one has applied is not in the log any more.
func (a *applier) reachLive(ctx context.Context, tx pgx.Tx, live state) (lost bool, err error) {
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
