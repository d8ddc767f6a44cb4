package projector

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// A replay builds the next generation of a projection beside the live one. It fixes a head H, folds the events 1..H,
// which can never change, in large chunks, each in one transaction with the replay's own checkpoint. Then it catches up with what
// was appended meanwhile, and flips the live generation in one short transaction. If it is killed at any point, it continues from
// its checkpoint, on the instance that owns the projection then.

// A rollback is a replay that does not begin at the beginning of the log: it brings the previous generation up to date, from its own
// checkpoint, and flips. The generation that was live is then the previous one, so a second rollback undoes the first.

// runReplays runs the projection's replays, one after the other, until ctx ends. If newVersion is set, older code has built the live
// generation: runReplays then starts a replay first, during which that generation serves. If the replay fails, as it does while events
// are in the archive, that generation goes on serving, and an operator starts the next replay.
func (w *worker) runReplays(ctx context.Context, epoch int64, newVersion bool) {
	for ctx.Err() == nil {
		if newVersion {
			_, err := w.state.startReplay(ctx)
			running, busy := errors.AsType[*ReplayRunningError](err)
			if err != nil && !busy {
				w.warn(ctx, "starting the replay for a new version failed; retrying", err)
				sleep(ctx, w.cfg.Lease/3)
				continue
			}
			// A rollback builds nothing: the replay is started after it.
			newVersion = busy && running.Replay.Kind == KindRollback
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

// failReplay ends a replay that cannot be finished. One whose database or Store is unavailable continues when it is back.
func (w *worker) failReplay(ctx context.Context, r runningReplay, cause error) {
	w.warn(ctx, "replaying failed", cause)
	if ctx.Err() != nil || w.cfg.Transient(cause) || errors.Is(cause, errStore) || r.id == uuid.Nil {
		return
	}
	if err := w.state.failReplay(ctx, r.id, cause); err != nil {
		w.warn(ctx, "recording a failed replay failed", err)
	}
}

// wholeLog returns an *ArchivedError if the log does not begin at position 1, so that nothing can be rebuilt from it.
func (w *worker) wholeLog(ctx context.Context) error {
	first, err := w.cfg.Log.Begin(ctx)
	if err == nil && first > 1 {
		err = &ArchivedError{First: first}
	}
	return err
}

// runReplay takes a replay from its checkpoint to the flip.
func (w *worker) runReplay(ctx context.Context, epoch int64, r runningReplay) error {
	if r.kind != KindRollback {
		if err := w.wholeLog(ctx); err != nil { // before the rows of the previous generation are deleted
			return err
		}
	}
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
		flip = w.flipReplayInStore
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
