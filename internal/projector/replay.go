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

const (
	// A replay that newer code has begun is left to newer code.
	nextReplaySQL = `select id, version, generation, total, position from projection_replays
where projection = $1 and state = 'running' and version <= $2`

	// Rows of older code are not gone on with: the replay begins anew, in a generation that has no rows.
	restartReplaySQL = `update projection_replays
set version = $2, generation = generation + 1, position = 0, processed = 0
where id = $1 and state = 'running' and generation = $3
  and exists (select from projections p where p.id = projection and p.epoch = $4)`

	// The compare-and-set of a replay. The epoch is that of the projection's owner, and the row lock on the replay is
	// what a cancellation waits for. A stalled owner may still see its own epoch here: then the position and the
	// generation, which are looked at again under the row lock, tell whether another one has gone on meanwhile.
	advanceReplaySQL = `update projection_replays
set position = $2, processed = least($2, total)
where id = $1 and state = 'running' and position = $3 and generation = $5
  and exists (select from projections p where p.id = projection and p.epoch = $4)`

	failReplaySQL = `update projection_replays
set state = 'failed', error = $2, finished_at = clock_timestamp() where id = $1 and state = 'running'`

	lockLiveSQL = `select position, status from projections where id = $1 and epoch = $2 for update`

	// processed counted every event up to total, and the log has no gap: so processed = total proves completeness.
	completeSQL = `update projection_replays
set state = 'completed', finished_at = clock_timestamp() where id = $1 and state = 'running' and processed = total`

	// What had halted the old generation is not a failure of the new one, which has got past it.
	flipSQL = `update projections
set generation = $2, version = $3, position = $4, last_event_id = coalesce($6, last_event_id), status = 'running',
    error_count = 0, last_error = '', error_position = 0, updated_at = clock_timestamp()
where id = $1 and epoch = $5 and position <= $4`

	liveGenerationSQL = `select generation from projections where id = $1`
)

// catchUp is how many events a generation may be behind the live one when the flip is tried: they are applied while
// the live projection waits.
const catchUp = 1_000

// errPaused says that a generation is complete but may not go live, because the projection is paused.
var errPaused = errors.New("the projection is paused")

// rebuild is a running replay as its owner works on it.
type rebuild struct {
	id         uuid.UUID
	version    int // of the code that folds it
	generation int64
	total      int64
	position   int64
}

// replays runs the projection's replays, one after the other, until ctx ends: first of all the one that a grown code
// version asks for, during which the old generation serves.
func (w *worker) replays(ctx context.Context, epoch int64, grown bool) {
	for ctx.Err() == nil {
		if grown {
			var running *ReplayRunningError
			if _, err := w.startReplay(ctx); err != nil && !errors.As(err, &running) {
				w.complain(ctx, "starting the replay for a new version failed", err)
				pause(ctx, w.cfg.Lease/3)
				continue
			}
			grown = false
		}
		r, ok, err := w.nextReplay(ctx)
		if err == nil && ok {
			err = w.replay(ctx, epoch, r)
		}
		switch {
		case err == nil && ok:
		case err == nil:
			w.wakeReplay.waitFor(ctx, max(w.cfg.Poll, 500*time.Millisecond))
		case errors.Is(err, errFenced), errors.Is(err, errPaused):
			// Paused, cancelled, or another instance owns the projection: nextReplay and the lease tell which.
			pause(ctx, w.cfg.Poll)
		default:
			w.failReplay(ctx, r, err)
			pause(ctx, w.cfg.Lease/3)
		}
	}
}

func (w *worker) nextReplay(ctx context.Context) (r rebuild, ok bool, err error) {
	err = w.cfg.Pool.QueryRow(ctx, nextReplaySQL, w.def.ID, w.def.Version).Scan(&r.id, &r.version, &r.generation, &r.total, &r.position)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, false, nil
	case err != nil:
		return r, false, fmt.Errorf("projector: next replay of %s: %w", w.def.ID, err)
	}
	return r, true, nil
}

// failReplay ends a replay that can not be finished. One that only lost its database goes on later.
func (w *worker) failReplay(ctx context.Context, r rebuild, cause error) {
	w.complain(ctx, "replaying failed", cause)
	if ctx.Err() != nil || w.cfg.Transient(cause) || r.id == uuid.Nil {
		return
	}
	if _, err := w.cfg.Pool.Exec(ctx, failReplaySQL, r.id, cause.Error()); err != nil {
		w.complain(ctx, "recording a failed replay failed", err)
	}
}

// replay takes a replay from its checkpoint to the flip.
func (w *worker) replay(ctx context.Context, epoch int64, r rebuild) error {
	if r.version < w.def.Version {
		tag, err := w.cfg.Pool.Exec(ctx, restartReplaySQL, r.id, w.def.Version, r.generation, epoch)
		if err := exactlyOne(tag, err); err != nil {
			return err
		}
		r.version, r.generation, r.position = w.def.Version, r.generation+1, 0
	}
	if r.position == 0 {
		if err := w.sweep(ctx, r.generation); err != nil {
			return err
		}
	}
	w.cfg.Logger.InfoContext(ctx, "replay goes on", "projection", w.def.ID, "replay", r.id, "generation", r.generation,
		"position", r.position, "total", r.total)
	for r.position < r.total {
		if err := w.replayChunk(ctx, epoch, &r, int(min(int64(w.cfg.ReplayBatch), r.total-r.position))); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		before := r.position
		if err := w.replayChunk(ctx, epoch, &r, w.cfg.ReplayBatch); err != nil {
			return err
		}
		if r.position-before <= catchUp {
			break
		}
	}
	return w.flip(ctx, epoch, r)
}

// replayChunk folds the next events into the new generation and moves the replay's checkpoint with them.
func (w *worker) replayChunk(ctx context.Context, epoch int64, r *rebuild, limit int) error {
	events, err := w.cfg.Log.ReadAfter(ctx, r.position, limit)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		if r.position < r.total {
			return &EventError{Position: r.position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, r.position, r.total)}
		}
		return nil
	}
	b, err := w.fold(events, r.position)
	if err != nil {
		return err
	}
	if err := w.begin(ctx, func(tx pgx.Tx) error {
		return w.writeReplay(ctx, tx, epoch, *r, b)
	}); err != nil {
		return err
	}
	r.position = b.last
	return nil
}

func (w *worker) writeReplay(ctx context.Context, tx pgx.Tx, epoch int64, r rebuild, b *batch) error {
	tag, err := tx.Exec(ctx, advanceReplaySQL, r.id, b.last, r.position, epoch, r.generation)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	return b.flush(ctx, tx, r.generation)
}

// flip applies the last events to the new generation while the live one stands still, and makes it the live one. The
// position never goes back: a reader that has seen position N on the old generation sees at least N on the new.
func (w *worker) flip(ctx context.Context, epoch int64, r rebuild) error {
	err := w.begin(ctx, func(tx pgx.Tx) error {
		var (
			live   int64
			status string
		)
		err := tx.QueryRow(ctx, lockLiveSQL, w.def.ID, epoch).Scan(&live, &status)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errFenced
		case err != nil:
			return err
		case status == "paused":
			return errPaused
		}
		if err := w.meet(ctx, tx, epoch, &r, live); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, completeSQL, r.id)
		if err := exactlyOne(tag, err); err != nil {
			return err
		}
		lastID, err := w.eventAt(ctx, r.position)
		if err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, flipSQL, w.def.ID, r.generation, r.version, r.position, epoch, lastID)
		return exactlyOne(tag, err)
	})
	if err != nil {
		return err
	}
	w.cfg.Logger.InfoContext(ctx, "replay completed", "projection", w.def.ID, "replay", r.id, "generation", r.generation,
		"position", r.position)
	w.wake.raise()
	w.cfg.Applied(w.def.ID, r.position)
	return nil
}

// meet applies what the live generation has and the new one has not yet.
func (w *worker) meet(ctx context.Context, tx pgx.Tx, epoch int64, r *rebuild, live int64) error {
	for r.position < live {
		events, err := w.cfg.Log.ReadAfter(ctx, r.position, int(min(live-r.position, int64(w.cfg.ReplayBatch))))
		if err != nil {
			return err
		}
		b, err := w.fold(events, r.position)
		if err != nil {
			return err
		}
		if b.count == 0 {
			return &EventError{Position: r.position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, r.position, live)}
		}
		if err := w.writeReplay(ctx, tx, epoch, *r, b); err != nil {
			return err
		}
		r.position = b.last
	}
	return nil
}

// eventAt answers the id of the event at a position, nil at 0.
func (w *worker) eventAt(ctx context.Context, position int64) (*uuid.UUID, error) {
	if position == 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	events, err := w.cfg.Log.ReadAfter(ctx, position-1, 1)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 || events[0].Position != position {
		return nil, &EventError{Position: position, Err: ErrGap}
	}
	return &events[0].EventID, nil
}

// sweep deletes the rows of generations that are over: those before the one being built, except the live one. A
// stalled owner that does this late does no harm, since a generation that is over stays so, and later ones are left
// alone.
func (w *worker) sweep(ctx context.Context, building int64) error {
	var live int64
	if err := w.cfg.Pool.QueryRow(ctx, liveGenerationSQL, w.def.ID).Scan(&live); err != nil {
		return fmt.Errorf("projector: sweep of %s: %w", w.def.ID, err)
	}
	for _, table := range w.def.Tables {
		if err := w.sweepTable(ctx, pgx.Identifier{table}.Sanitize(), live, building); err != nil {
			return fmt.Errorf("projector: sweep of %s: %w", table, err)
		}
	}
	return nil
}

func (w *worker) sweepTable(ctx context.Context, table string, live, building int64) error {
	// Each generation is found by the index, and deleted in small steps.
	next := "select min(generation) from " + table + " where generation > $1 and generation < $2"
	remove := fmt.Sprintf("delete from %s where ctid = any (array(select ctid from %s where generation = $1 limit 10000))",
		table, table)
	for after := int64(0); ; {
		var generation *int64
		err := w.cfg.Pool.QueryRow(ctx, next, after, building).Scan(&generation)
		if err != nil || generation == nil {
			return err
		}
		if after = *generation; after == live {
			continue
		}
		for {
			tag, err := w.cfg.Pool.Exec(ctx, remove, after)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				break
			}
		}
	}
}
