package projector

import (
	"context"
	"errors"
)

// follow applies the log to the projection's live generation in this instance's own store, while another instance is the owner. It
// returns when it is time to try to take the lease again.
func (w *worker) follow(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Lease/3)
	defer cancel()
	st, ok, err := w.state.readState(ctx, readSQL, w.def.ID)
	a := newApplier(w.state, w.cfg.Batch)
	a.epoch, a.generation, a.live, a.read = st.epoch, st.generation, true, w.readTail
	if err == nil && ok && st.status != Paused {
		err = a.align(ctx)
	}
	for err == nil && ok && st.status != Paused && ctx.Err() == nil {
		var n int64
		n, err = a.applyNext(ctx)
		if errors.Is(err, errRetryNow) {
			err = nil
			continue
		}
		if n > 0 || err != nil {
			continue
		}
		err = w.flipStore(ctx, a)
		w.cfg.Applied(w.def.ID, a.Position)
		w.wake.wait(ctx, w.poll())
	}
	w.truncated = w.truncated || errors.Is(err, ErrLogTruncated)
	if err != nil && !errors.Is(err, errFenced) {
		w.warn(ctx, "following another instance failed; retrying", err)
	}
	<-ctx.Done()
}
