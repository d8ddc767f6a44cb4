package projector

import (
	"context"
	"sync"
	"time"
)

// run waits for the lease, works while it holds it, and starts again when it has lost it. With Projection.PerInstance it follows while
// another instance holds the lease.
func (w *worker) run(ctx context.Context) {
	registered := false
	for ctx.Err() == nil {
		if !registered {
			if err := w.state.register(ctx); err != nil {
				w.warn(ctx, "registering the projection failed; retrying", err)
				sleep(ctx, w.cfg.Lease/3)
				continue
			}
			registered = true
		}
		st, ok, err := w.state.takeLease(ctx)
		if err != nil {
			w.warn(ctx, "taking the lease failed; retrying", err)
		}
		if !ok && w.def.PerInstance {
			w.follow(ctx)
			continue
		}
		if !ok {
			sleep(ctx, w.cfg.Lease/3)
			continue
		}
		w.cfg.Logger.InfoContext(ctx, "lease taken", "projection", w.def.ID, "epoch", st.epoch, "position", st.at.Position)
		w.runOwned(ctx, st)
		sleep(ctx, w.cfg.Lease/3) // the lease is lost: do not compete with the new owner
	}
}

// runOwned applies the projection and its replays until the lease is lost or ctx ends.
func (w *worker) runOwned(ctx context.Context, st state) {
	ctx, cancel := context.WithCancel(ctx)
	var replays sync.WaitGroup
	replays.Go(func() { w.runReplays(ctx, st.epoch, st.version < w.def.Version) })
	w.runLive(ctx, st.epoch)
	cancel()
	replays.Wait()

	release, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := w.state.releaseLease(release, st.epoch); err != nil {
		w.warn(release, "releasing the lease failed; it will expire", err)
	}
}
