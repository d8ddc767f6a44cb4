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
	nextReplaySQL = `select id, kind, version, generation, total, position, last_event_id from projection_replays
where projection = $1 and state = 'running' and version <= $2`

	// Rows of older code are not gone on with: the replay begins anew, in a generation that has no rows.
	restartReplaySQL = `update projection_replays
set version = $2, generation = generation + 1, position = 0, last_event_id = null, processed = 0
where id = $1 and state = 'running' and generation = $3
  and exists (select from projections p where p.id = projection and p.epoch = $4)`

	// The compare-and-set of a replay. The epoch is that of the projection's owner, and the row lock on the replay is
	// what a cancellation waits for. A stalled owner may still see its own epoch here: then the position and the
	// generation, which are looked at again under the row lock, tell whether another one has gone on meanwhile.
	advanceReplaySQL = `update projection_replays
set position = $2, last_event_id = $6, processed = least($2, total)
where id = $1 and state = 'running' and position = $3 and generation = $5 and last_event_id is not distinct from $7
  and exists (select from projections p where p.id = projection and p.epoch = $4)`

	lockOwnedSQL = `select from projections where id = $1 and epoch = $2 for update`

	lockReplaySQL = `select from projection_replays
where id = $1 and state = 'running' and position = $2 and generation = $3 for update`

	failReplaySQL = `update projection_replays r
set state = 'failed', error = $2, finished_at = clock_timestamp(), parked = ` + parkedInReplay + `
where id = $1 and state = 'running'`

	lockLiveSQL = `select position, last_event_id, status, generation from projections where id = $1 and epoch = $2 for update`

	// Streams that the new generation would have further back than the live one has.
	parkedFurtherBackSQL = `select count(*), coalesce(min(n.position), 0), coalesce((array_agg(n.error order by n.position))[1], '')
from projection_failures n
where n.projection = $1 and n.generation = $2 and n.parked and not exists (
    select from projection_failures l where l.projection = n.projection and l.generation = $3 and l.stream_id = n.stream_id
       and l.parked and l.position <= n.position)`

	// processed counted every event up to total, and the log has no gap: so processed = total proves completeness.
	completeSQL = `update projection_replays r
set state = 'completed', finished_at = clock_timestamp(), parked = ` + parkedInReplay + `
where id = $1 and state = 'running' and processed = total`

	// What had halted the old generation is not a failure of the new one, which has got past it. The old one is kept to
	// be rolled back to, as it stands. But when what it had applied is not in the log any more ($8), there is nothing to
	// roll back to, and positions that were applied need not be there again.
	flipSQL = `update projections
set generation = $2, version = $3, position = $4, last_event_id = $6, status = 'running',
    error_count = 0, last_error = '', error_position = 0, updated_at = clock_timestamp(),
    previous_generation = case when not $8 then generation end, previous_version = case when not $8 then version end,
    previous_position = case when not $8 then position end, previous_event_id = case when not $8 then last_event_id end,
    declined_version = case when $7 then greatest(version, declined_version) else 0 end
where id = $1 and epoch = $5 and (position <= $4 or $8)`
)

// flipDistance is how many events a generation may be behind the live one when the flip is tried: they are applied while
// the live projection waits.
const flipDistance = 1_000

// errPaused says that a generation is complete but may not go live, because the projection is paused.
var errPaused = errors.New("the projection is paused")

// rebuild is a running replay or rollback as its owner works on it.
type rebuild struct {
	id         uuid.UUID
	kind       string
	version    int // of the code that folds it
	generation int64
	total      int64
	at         checkpoint
}

// replayRow is the checkpoint of the generation that a replay builds.
type replayRow struct {
	w     *worker
	epoch int64
	r     rebuild
}

func (c replayRow) advance(ctx context.Context, tx pgx.Tx, from checkpoint, b *batch) error {
	if c.r.kind == rollback {
		if err := c.advancePrevious(ctx, tx, from, b.last); err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, advanceReplaySQL, c.r.id, b.last.position, from.position, c.epoch, c.r.generation, b.last.id(), from.id())
	return exactlyOne(tag, err)
}

func (c replayRow) hold(ctx context.Context, tx pgx.Tx, at checkpoint) error {
	tag, err := tx.Exec(ctx, lockOwnedSQL, c.w.def.ID, c.epoch)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	tag, err = tx.Exec(ctx, lockReplaySQL, c.r.id, at.position, c.r.generation)
	return exactlyOne(tag, err)
}

// replays runs the projection's replays, one after the other, until ctx ends: first of all the one that a grown code
// version asks for, during which the old generation serves.
func (w *worker) replays(ctx context.Context, epoch int64, grown bool) {
	for ctx.Err() == nil {
		if grown {
			var running *ReplayRunningError
			if _, err := w.startReplay(ctx); err != nil && !errors.As(err, &running) {
				w.warn(ctx, "starting the replay for a new version failed", err)
				sleep(ctx, w.cfg.Lease/3)
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

func (w *worker) nextReplay(ctx context.Context) (r rebuild, ok bool, err error) {
	var (
		position int64
		event    *uuid.UUID
	)
	err = w.cfg.Pool.QueryRow(ctx, nextReplaySQL, w.def.ID, w.def.Version).
		Scan(&r.id, &r.kind, &r.version, &r.generation, &r.total, &position, &event)
	r.at = checkpointOf(position, event)
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
	w.warn(ctx, "replaying failed", cause)
	if ctx.Err() != nil || w.cfg.Transient(cause) || r.id == uuid.Nil {
		return
	}
	if _, err := w.cfg.Pool.Exec(ctx, failReplaySQL, r.id, textOf(cause)); err != nil {
		w.warn(ctx, "recording a failed replay failed", err)
	}
}

// replay takes a replay from its checkpoint to the flip.
func (w *worker) replay(ctx context.Context, epoch int64, r rebuild) error {
	if r.version < w.def.Version && r.kind != rollback {
		tag, err := w.cfg.Pool.Exec(ctx, restartReplaySQL, r.id, w.def.Version, r.generation, epoch)
		if err := exactlyOne(tag, err); err != nil {
			return err
		}
		r.version, r.generation, r.at = w.def.Version, r.generation+1, checkpoint{}
	}
	row := replayRow{w, epoch, r}
	if r.at.position == 0 && r.kind != rollback {
		if err := w.deleteOld(ctx, row); err != nil {
			return err
		}
	}
	w.cfg.Logger.InfoContext(ctx, "replay goes on", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", r.at.position, "total", r.total)
	a := w.newApplier(w.cfg.ReplayBatch)
	a.row, a.generation, a.checkpoint = row, r.generation, r.at
	reader := &prefetcher{log: w.cfg.Log}
	defer reader.close()
	a.read = reader.readAfter
	if err := a.load(ctx); err != nil {
		return err
	}
	for {
		if err := a.catchUp(ctx, r.total); err != nil {
			return err
		}
		if err := a.retryAll(ctx); err != nil {
			return err
		}
		if err := w.flip(ctx, epoch, r, a); !errors.Is(err, errRetryNow) {
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
		case n == 0 && a.position < total:
			return &EventError{Position: a.position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, a.position, total)}
		case n <= flipDistance && a.position >= total:
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
	err := w.begin(ctx, func(tx pgx.Tx) error {
		var (
			position, generation int64
			event                *uuid.UUID
			status               string
		)
		err := tx.QueryRow(ctx, lockLiveSQL, w.def.ID, epoch).Scan(&position, &event, &status, &generation)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errFenced
		case err != nil:
			return err
		case status == "paused":
			return errPaused
		}
		lost, err := reached.reachLive(ctx, tx, checkpointOf(position, event), generation)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, completeSQL, r.id)
		if err := exactlyOne(tag, err); err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, flipSQL, w.def.ID, r.generation, r.version, reached.position, epoch, reached.id(), r.kind == rollback, lost)
		return exactlyOne(tag, err)
	})
	if err != nil {
		return err
	}
	w.cfg.Logger.InfoContext(ctx, "replay completed", "projection", w.def.ID, "replay", r.id, "kind", r.kind,
		"generation", r.generation, "position", reached.position, "parked", len(a.parked))
	w.wake.set()
	w.cfg.Applied(w.def.ID, reached.position)
	return nil
}

// reachLive takes the applier as far as the live generation is, on all streams; lost says that there is no need, since what the
// live one has applied is not in the log any more.
func (a *applier) reachLive(ctx context.Context, tx pgx.Tx, live checkpoint, generation int64) (lost bool, err error) {
	_, err = readAfter(ctx, a.w.cfg.Log, live, 1)
	switch {
	case errors.Is(err, ErrLogTruncated):
		return true, nil
	case err != nil:
		return false, err
	}
	if err := a.applyInTx(ctx, tx, live.position); err != nil {
		return false, err
	}
	return false, a.w.checkParked(ctx, tx, a.generation, generation)
}

// checkParked fails when the new generation has streams parked that the live one has not, or not so far back.
func (w *worker) checkParked(ctx context.Context, tx pgx.Tx, generation, live int64) error {
	var (
		streams, position int64
		cause             string
	)
	if err := tx.QueryRow(ctx, parkedFurtherBackSQL, w.def.ID, generation, live).Scan(&streams, &position, &cause); err != nil || streams == 0 {
		return err
	}
	return fmt.Errorf("%d streams could not be rebuilt as far as the live generation has them; the first stopped at position %d: %s",
		streams, position, cause)
}

// applyInTx applies what the live generation has and this one has not yet, in the transaction of the flip. What cannot be
// applied is left to the next steps, which know how to deal with it.
func (a *applier) applyInTx(ctx context.Context, tx pgx.Tx, position int64) error {
	for a.position < position {
		events, err := readAfter(ctx, a.w.cfg.Log, a.checkpoint, int(min(position-a.position, int64(a.maxLimit))))
		if err != nil {
			return err
		}
		b, foldErr := a.fold(events)
		switch {
		case len(events) == 0:
			return &EventError{Position: a.position + 1, Err: fmt.Errorf("%w: it ends at %d and held %d", ErrGap, a.position, position)}
		case foldErr != nil:
			return errRetryNow
		}
		if err := a.write(ctx, tx, b); err != nil {
			if a.w.mayBlameEvent(err) {
				return errRetryNow
			}
			return err
		}
		a.advanced(b)
	}
	return nil
}
