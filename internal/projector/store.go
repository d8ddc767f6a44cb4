package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Store keeps a read model elsewhere than in tables of PostgreSQL: in memory, or in a cache. It keeps generations, of which
// one is live, that is, read; and the checkpoint of each, which is stored together with what a batch does. It decides how
// far a generation is; the row in projections follows it. Epochs and generations are numbers from 1, and grow.
//
// Package storetest has the tests that every Store passes.
type Store interface {
	// Checkpoint returns the checkpoint of a generation, the zero Checkpoint when nothing is stored of it. From then on the
	// store refuses owners of earlier epochs. It returns ErrFenced when it has seen a later epoch.
	Checkpoint(ctx context.Context, epoch, generation int64) (Checkpoint, error)
	// Apply stores what the fold does to a generation, and its checkpoint, both or neither. It returns ErrFenced, and changes
	// nothing, when the generation is not at from or when the store has seen a later epoch.
	Apply(ctx context.Context, epoch, generation int64, from, to Checkpoint, fold any) error
	// Flip makes a generation live unless a later one is, and may delete all but it and the one that was. It returns ErrFenced
	// when the store has seen a later epoch, and when the generation is behind the live one, unless back is true: then the log
	// was truncated.
	Flip(ctx context.Context, epoch, generation int64, back bool) error
}

// ErrFenced says that a Store has refused its caller: another owner has taken over, or a generation is not where the caller
// takes it to be.
var ErrFenced = errors.New("the store has refused a stale owner")

// errStore says that a Store has failed, which is waited out.
var errStore = errors.New("the store")

// DefineIn makes a Projection whose read model a Store keeps. newFold makes what gathers a batch, which handlers, added with
// On, take, and which the Store knows how to apply. An event that a handler cannot apply halts the projection: no stream is
// parked. There is no previous generation to roll back to.
func DefineIn(store Store, id string, version int, newFold func() any) *Projection {
	p := define(id, version)
	if store == nil || newFold == nil || newFold() == nil {
		p.refuse("it takes a store, and a function that makes a fold")
	}
	p.store, p.newFold = store, newFold
	return p
}

// align moves the row to the checkpoint that the store has.
func (a *applier) align(ctx context.Context) error {
	if a.def.store == nil {
		return nil
	}
	at, err := a.def.store.Checkpoint(ctx, a.epoch, a.generation)
	if err != nil {
		return a.storeError(err)
	}
	if at != a.Checkpoint && a.row != nil {
		if err := a.state.begin(ctx, func(tx pgx.Tx) error { return a.row.advance(ctx, tx, a.Checkpoint, &batch{last: at}) }); err != nil {
			return err
		}
	}
	a.Checkpoint, a.served = at, false
	return nil
}

// applyToStore applies a batch to the store.
func (a *applier) applyToStore(ctx context.Context, b *batch) error {
	if a.live {
		a.state.flipping.Lock()
		defer a.state.flipping.Unlock()
	}
	err := catchPanic(func() error { return a.def.store.Apply(ctx, a.epoch, a.generation, a.Checkpoint, b.last, b.fold) })
	return a.storeError(err)
}

func (a *applier) storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFenced):
		return errFenced
	}
	return fmt.Errorf("%w of %s: %w", errStore, a.def.ID, err)
}

// serveStore makes the generation of an applier that has caught up with the log the live one of the store. It does so once
// after each look at the store's checkpoint. A store that refuses, because the generation is behind the one it has live or
// because another owner has taken over, is asked again at the next poll.
func (w *worker) serveStore(ctx context.Context, a *applier) error {
	if w.def.store == nil || a.served {
		return nil
	}
	err := a.storeError(w.def.store.Flip(ctx, a.epoch, a.generation, w.truncated))
	if err == nil {
		w.truncated, a.served = false, true
	} else if errors.Is(err, errFenced) {
		err = nil
	}
	return err
}

// flipInStore is flip for a Store: first the store is flipped and then the row. If the process dies in between, the next
// owner finds the replay running and does both again.
func (w *worker) flipInStore(ctx context.Context, epoch int64, r rebuild, a *applier) error {
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
	lost := errors.Is(err, ErrLogTruncated)
	if !lost {
		if err == nil {
			err = a.catchUp(ctx, max(r.total, at.Position))
		}
		if err != nil {
			return err
		}
	}
	if err := w.def.store.Flip(ctx, epoch, r.generation, lost); err != nil {
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
		w.flipped(ctx, r, a)
	}
	return err
}

// follow applies the log to this instance's own store while another instance is the owner, to the generation that is live
// there, until it is time to try for the lease again.
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
		err = w.serveStore(ctx, a)
		w.cfg.Applied(w.def.ID, a.Position)
		w.wake.wait(ctx, w.poll())
	}
	w.truncated = w.truncated || errors.Is(err, ErrLogTruncated)
	if err != nil && !errors.Is(err, errFenced) {
		w.warn(ctx, "following another instance failed; retrying", err)
	}
	<-ctx.Done()
}
