package projector

import (
	"context"
	"errors"
	"time"
)

// runLive applies batch after batch, and returns when the lease is lost or ctx ends. An error for which no stream is parked
// is retried at growing intervals, up to a third of the lease. Unless it is transient, the projection is halted meanwhile.
func (w *worker) runLive(ctx context.Context, epoch int64) {
	a := newApplier(w.state, w.cfg.Batch)
	a.live = true
	a.read = w.readTail
	halts, stale, renewAt := 0, true, time.Time{}
	for ctx.Err() == nil {
		if stale || time.Now().After(renewAt) {
			switch err := a.refresh(ctx, epoch); {
			case errors.Is(err, errFenced):
				w.cfg.Logger.WarnContext(ctx, "lease lost to another instance", "projection", w.def.ID, "epoch", epoch)
				return
			case err != nil:
				w.warn(ctx, "renewing the lease or reading the checkpoint failed; retrying", err)
				sleep(ctx, w.cfg.Lease/10)
				continue
			}
			stale, renewAt = false, time.Now().Add(w.cfg.Lease/3)
		}
		if a.status == Paused {
			w.wake.wait(ctx, w.poll())
			stale = true
			continue
		}
		began, limit := time.Now(), a.limit // runOnce changes a.limit
		applied, err := w.runOnce(ctx, a, epoch)
		switch {
		case errors.Is(err, errFenced):
			stale = true
		case errors.Is(err, errRetryNow):
		case err != nil && ctx.Err() == nil:
			halts++
			stale = true
			w.fail(ctx, epoch, a.Position+1, err)
			sleep(ctx, min(100*time.Millisecond<<min(halts, 6), w.cfg.Lease/3))
		case applied == 0:
			halts = 0
			w.wake.wait(ctx, w.poll())
		default:
			halts = 0
			renewAt = time.Now().Add(w.cfg.Lease / 3)
			if applied < int64(limit) { // caught up, or nearly
				w.delayBatch(ctx, time.Since(began))
				w.wake.wait(ctx, w.poll())
			}
		}
	}
}

// refresh renews the lease and reads the live generation and its checkpoint. errFenced means that the lease is lost.
func (a *applier) refresh(ctx context.Context, epoch int64) error {
	st, ok, err := a.state.renewLease(ctx, epoch)
	switch {
	case err != nil:
		return err
	case !ok:
		return errFenced
	}
	a.previous = nil
	a.row = liveRow{a.state, epoch, st.generation}
	a.epoch, a.generation, a.Checkpoint, a.status = epoch, st.generation, st.at, st.status
	if a.def.store == nil {
		return a.load(ctx)
	}
	if a.status == Paused {
		return nil
	}
	return a.align(ctx)
}

// maxBatchDelay bounds the delay after a long batch.
const maxBatchDelay = 250 * time.Millisecond

// delayBatch lets events gather after a batch, so that few large batches are applied rather than many small ones. The delay is
// the configured one, or four times what the batch took if that is longer, up to maxBatchDelay and a third of the lease. A
// reader that waits for the projection cuts it short: to what the batch took, but at least a quarter and at most half of the
// configured delay.
func (w *worker) delayBatch(ctx context.Context, took time.Duration) {
	delay := w.cfg.BatchDelay
	if w.def.BatchDelay > 0 {
		delay = w.def.BatchDelay
	}
	short := min(max(took, delay/4), delay/2)
	sleep(ctx, short)
	w.shortenDelay.wait(ctx, max(delay, min(4*took, maxBatchDelay, w.cfg.Lease/3))-short)
}

// runOnce retries a parked stream, if one is due, and applies the next batch, so that neither keeps the other from progress.
func (w *worker) runOnce(ctx context.Context, a *applier, epoch int64) (int64, error) {
	if w.retryAsked.Swap(false) {
		a.nextRetry = time.Time{}
	}
	tried, err := a.retry(ctx)
	if err != nil {
		return 0, err
	}
	applied, err := a.applyNext(ctx)
	if err == nil && applied == 0 {
		err = w.flipStore(ctx, a)
	} else if errors.Is(err, ErrLogTruncated) {
		w.truncated = true
	}
	if applied > 0 || tried {
		w.rate.add(applied)
		w.cfg.Applied(w.def.ID, a.Position)
	}
	switch {
	case applied > 0:
		a.status = Running
		return applied, err
	case err != nil:
		return 0, err
	case a.status == Halted:
		if err := w.state.clearHalt(ctx, epoch, a.Position); err != nil {
			return 0, err
		}
		a.status = Running
	}
	if tried {
		return 0, errRetryNow
	}
	return 0, nil
}

// fail records why the next batch could not be applied, unless the database is merely unavailable.
func (w *worker) fail(ctx context.Context, epoch, position int64, cause error) {
	w.warn(ctx, "applying events failed; retrying", cause)
	if w.cfg.Transient(cause) {
		return
	}
	if at, ok := errors.AsType[*EventError](cause); ok {
		position = at.Position
	}
	if err := w.state.recordHalt(ctx, epoch, position, cause); err != nil && !errors.Is(err, errFenced) {
		w.warn(ctx, "recording a failure failed", err)
	}
}
