package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A rollback is a replay that does not begin at the log's beginning: it takes the previous generation from where it
// was left to the live position, by the replay's own means, and flips. What was live is the previous generation then,
// so that a second rollback is the way forward again.

// rollback is the kind of such a replay.
const rollback = "rollback"

// rollbackTimeout is how long Rollback waits for the flip.
const rollbackTimeout = 15 * time.Second

const (
	// The row lock waits for a flip under way, so that the previous generation is the one it leaves: the insert alone would
	// wait for it too, for the end of the other rebuild, but with the row as it was before.
	startRollbackSQL = `insert into projection_replays as r (id, projection, kind, version, generation, total, processed, position, last_event_id)
select $1, p.id, 'rollback', p.previous_version, p.previous_generation, greatest($3, p.previous_position), p.previous_position,
       p.previous_position, p.previous_event_id
from projections p where p.id = $2 and p.previous_generation is not null
for no key update of p
returning ` + replayColumns

	// The previous generation's own checkpoint moves with its rows, so that a rollback which is cancelled can be asked
	// for again.
	advancePreviousSQL = `update projections set previous_position = $4, previous_event_id = $6
where id = $1 and epoch = $2 and previous_generation = $3 and previous_position = $5`
)

var (
	// ErrNoPreviousGeneration says that there is nothing to roll back to: the projection was not rebuilt yet, or a
	// replay has begun since, or it is held in memory.
	ErrNoPreviousGeneration = errors.New("no previous generation")
	// ErrRollbackFailed says that the previous generation could not be brought back; the live one serves on.
	ErrRollbackFailed = errors.New("the rollback has failed")
)

func (c replayRow) advancePrevious(ctx context.Context, tx pgx.Tx, from, to checkpoint) error {
	tag, err := tx.Exec(ctx, advancePreviousSQL, c.w.def.ID, c.epoch, c.r.generation, to.position, from.position, to.id())
	return exactlyOne(tag, err)
}

// Rollback makes the previous generation the live one again, after it has caught up, so that no read goes backwards.
// It waits for that for 15 s at most; after that, as when the projection is paused, the status names the rollback as
// its running replay. The errors are ErrUnknownProjection, ErrNoPreviousGeneration, ErrRollbackFailed, and
// *ReplayRunningError.
func (e *Engine) Rollback(ctx context.Context, id string) (Status, error) {
	p, ok := e.runners[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	if err := p.rollback(ctx); err != nil {
		return Status{}, err
	}
	return e.Projection(ctx, id)
}

func (w *worker) rollback(ctx context.Context) error {
	r, err := w.startRollback(ctx)
	if err != nil {
		return err
	}
	w.wakeReplay.set()
	deadline := time.Now().Add(rollbackTimeout)
	for r.State == "running" && time.Now().Before(deadline) && ctx.Err() == nil {
		sleep(ctx, 20*time.Millisecond)
		if r, err = w.replayOf(ctx, r.ID); err != nil {
			return err
		}
	}
	if r.State == "failed" {
		return fmt.Errorf("%w: %s", ErrRollbackFailed, r.Error)
	}
	return ctx.Err()
}

func (w *worker) startRollback(ctx context.Context) (Replay, error) {
	if err := w.register(ctx); err != nil {
		return Replay{}, err
	}
	head, err := w.cfg.Log.Head(ctx)
	if err != nil {
		return Replay{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Replay{}, fmt.Errorf("projector: rollback id: %w", err)
	}
	for {
		r, err := scanReplay(w.cfg.Pool.QueryRow(ctx, startRollbackSQL, id, w.def.ID, head))
		switch conflict, _ := errors.AsType[*pgconn.PgError](err); {
		case err == nil:
			return r, nil
		case errors.Is(err, ErrUnknownReplay):
			return Replay{}, ErrNoPreviousGeneration
		case conflict == nil || conflict.Code != uniqueViolation:
			return Replay{}, err
		}
		if err := w.refuseSecond(ctx); err != nil {
			return Replay{}, err
		}
		// The other one has ended just now: once more.
	}
}

// refuseSecond answers *ReplayRunningError when a replay is running.
func (w *worker) refuseSecond(ctx context.Context) error {
	running, err := scanReplay(w.cfg.Pool.QueryRow(ctx, lastReplaySQL, w.def.ID))
	if err != nil && !errors.Is(err, ErrUnknownReplay) {
		return err
	}
	if running.State == "running" {
		return &ReplayRunningError{Replay: running}
	}
	return nil
}
