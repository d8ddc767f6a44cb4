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

const (
	// The streams that are parked now in the generation of a replay.
	parkedInReplay = `(select count(*) from projection_failures f
where f.projection = r.projection and f.generation = r.generation and f.parked)`

	replayColumns = `r.id, r.projection, r.kind, r.state,
       case when r.state = 'running' then ` + parkedInReplay + ` else r.parked end, r.processed, r.total, r.generation, r.started_at, r.finished_at, r.error,
       extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::float8`

	lastReplaySQL = `select ` + replayColumns + ` from projection_replays r where r.projection = $1
order by r.state = 'running' desc, r.started_at desc, r.id desc limit 1`

	replaysSQL = `select ` + replayColumns + ` from projection_replays r where r.projection = $1
order by r.started_at desc, r.id desc limit $2`

	replaySQL = `select ` + replayColumns + ` from projection_replays r where r.projection = $1 and r.id = $2`

	// The next generation is higher than every earlier one, so that rows of a cancelled replay are never used.
	startReplaySQL = `insert into projection_replays as r (id, projection, version, generation, total)
select $1, p.id, greatest(p.version, $3), 1 + greatest(p.generation, coalesce((select max(generation) from projection_replays o where o.projection = p.id), 0)), $4
from projections p where p.id = $2
returning ` + replayColumns

	cancelReplaySQL = `update projection_replays r set state = 'cancelled', finished_at = clock_timestamp()
where r.projection = $1 and r.id = $2 and r.state = 'running' returning ` + replayColumns

	// Older code does not continue a replay that newer code has begun.
	nextReplaySQL = `select id, kind, version, generation, total, position, last_event_id from projection_replays
where projection = $1 and state = 'running' and version <= $2`

	// Rows that older code built are not used: the replay starts again, in a generation that has no rows.
	restartReplaySQL = `update projection_replays
set version = $2, generation = generation + 1, position = 0, last_event_id = null, processed = 0
where id = $1 and state = 'running' and generation = $3
  and exists (select from projections p where p.id = projection and p.epoch = $4)`

	// The compare-and-set of a replay. The epoch is that of the projection's owner, and a cancellation waits for the row lock on
	// the replay. An owner that was replaced may still see its own epoch here, because the projection's row is not locked. Then the
	// position and the generation, compared under the row lock, show whether the new owner has continued the replay.
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

	// The streams that are parked at an earlier event in the new generation than in the live one, or only in the new one.
	parkedFurtherBackSQL = `select count(*), coalesce(min(n.position), 0), coalesce((array_agg(n.error order by n.position))[1], '')
from projection_failures n
where n.projection = $1 and n.generation = $2 and n.parked and not exists (
    select from projection_failures l where l.projection = n.projection and l.generation = $3 and l.stream_id = n.stream_id
       and l.parked and l.position <= n.position)`

	// processed counts the events up to total, and the log has no gap: so processed = total means that none is missing.
	completeSQL = `update projection_replays r
set state = 'completed', finished_at = clock_timestamp(), parked = ` + parkedInReplay + `
where id = $1 and state = 'running' and processed = total`

	// An error that halted the old generation is cleared, because the new one has applied the event. The old generation is kept for a
	// rollback. But if the log no longer has what it applied ($8), there is nothing to roll back to, and the position may go
	// back.
	flipSQL = `update projections
set generation = $2, version = $3, position = $4, last_event_id = $6, status = 'running',
    error_count = 0, last_error = '', error_position = 0, updated_at = clock_timestamp(),
    previous_generation = case when not $8 then generation end, previous_version = case when not $8 then version end,
    previous_position = case when not $8 then position end, previous_event_id = case when not $8 then last_event_id end,
    declined_version = case when $7 then greatest(version, declined_version) else 0 end
where id = $1 and epoch = $5 and (position <= $4 or $8)`

	// The row lock waits for a flip in progress and then reads the row that it leaves. Without it, the insert would also wait, because
	// only one replay may run, but would use the row as it was before the flip.
	startRollbackSQL = `insert into projection_replays as r (id, projection, kind, version, generation, total, processed, position, last_event_id)
select $1, p.id, 'rollback', p.previous_version, p.previous_generation, greatest($3, p.previous_position), p.previous_position,
       p.previous_position, p.previous_event_id
from projections p where p.id = $2 and p.previous_generation is not null
for no key update of p
returning ` + replayColumns

	// The previous generation's own checkpoint moves with its rows, so that a rollback can be started again after one that was
	// cancelled.
	advancePreviousSQL = `update projections set previous_position = $4, previous_event_id = $6
where id = $1 and epoch = $2 and previous_generation = $3 and previous_position = $5`
)

func scanReplay(row pgx.Row) (Replay, error) {
	var (
		r        Replay
		finished *time.Time
		seconds  float64
	)
	err := row.Scan(&r.ID, &r.Projection, &r.Kind, &r.State, &r.Parked, &r.Processed, &r.Total, &r.Generation, &r.StartedAt, &finished, &r.Error, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return Replay{}, ErrUnknownReplay
	}
	if err != nil {
		return Replay{}, fmt.Errorf("projector: replay: %w", err)
	}
	if finished != nil {
		r.FinishedAt = finished.UTC()
	}
	r.StartedAt = r.StartedAt.UTC()
	r.setRate(seconds)
	return r, nil
}

// runningReplay is what the owner reads of a running replay or rollback.
type runningReplay struct {
	id         uuid.UUID
	kind       ReplayKind
	version    int // of the code that builds the rows
	generation int64
	total      int64
	at         Checkpoint
}

// replayRow is the checkpoint of the generation that a replay builds.
type replayRow struct {
	s     *stateStore
	epoch int64
	r     runningReplay
}

func (row replayRow) advance(ctx context.Context, tx pgx.Tx, from, to Checkpoint) error {
	if row.r.kind == KindRollback {
		if err := row.advancePrevious(ctx, tx, from, to); err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, advanceReplaySQL, row.r.id, to.Position, from.Position, row.epoch, row.r.generation, to.id(), from.id())
	return exactlyOne(tag, err)
}

func (row replayRow) hold(ctx context.Context, tx pgx.Tx, at Checkpoint) error {
	tag, err := tx.Exec(ctx, lockOwnedSQL, row.s.def.ID, row.epoch)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	tag, err = tx.Exec(ctx, lockReplaySQL, row.r.id, at.Position, row.r.generation)
	return exactlyOne(tag, err)
}

func (s *stateStore) nextReplay(ctx context.Context) (r runningReplay, ok bool, err error) {
	var (
		position int64
		event    *uuid.UUID
	)
	err = s.cfg.Pool.QueryRow(ctx, nextReplaySQL, s.def.ID, s.def.Version).
		Scan(&r.id, &r.kind, &r.version, &r.generation, &r.total, &position, &event)
	r.at = checkpointOf(position, event)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, false, nil
	case err != nil:
		return r, false, fmt.Errorf("projector: next replay of %s: %w", s.def.ID, err)
	}
	return r, true, nil
}

// checkParked returns an error if a stream is parked in the new generation and not in the live one, or there at a later event.
func (s *stateStore) checkParked(ctx context.Context, tx pgx.Tx, generation, live int64) error {
	var (
		streams, position int64
		cause             string
	)
	if err := tx.QueryRow(ctx, parkedFurtherBackSQL, s.def.ID, generation, live).Scan(&streams, &position, &cause); err != nil || streams == 0 {
		return err
	}
	return fmt.Errorf("%d streams could not be rebuilt as far as the live generation has them; the first stopped at position %d: %s",
		streams, position, cause)
}

func (row replayRow) advancePrevious(ctx context.Context, tx pgx.Tx, from, to Checkpoint) error {
	tag, err := tx.Exec(ctx, advancePreviousSQL, row.s.def.ID, row.epoch, row.r.generation, to.Position, from.Position, to.id())
	return exactlyOne(tag, err)
}

// startReplay inserts a replay that builds the next generation up to the log's head. It returns *ReplayRunningError if one is running.
func (s *stateStore) startReplay(ctx context.Context) (Replay, error) {
	return s.start(ctx, func(id uuid.UUID, head int64) pgx.Row {
		return s.cfg.Pool.QueryRow(ctx, startReplaySQL, id, s.def.ID, s.def.Version, head)
	})
}

// startRollback inserts a replay that brings the previous generation up to the log's head. It returns ErrNoPreviousGeneration, or
// *ReplayRunningError if one is running.
func (s *stateStore) startRollback(ctx context.Context) (Replay, error) {
	r, err := s.start(ctx, func(id uuid.UUID, head int64) pgx.Row {
		return s.cfg.Pool.QueryRow(ctx, startRollbackSQL, id, s.def.ID, head)
	})
	if errors.Is(err, ErrUnknownReplay) {
		err = ErrNoPreviousGeneration
	}
	return r, err
}

func (s *stateStore) start(ctx context.Context, insert func(id uuid.UUID, head int64) pgx.Row) (Replay, error) {
	if err := s.register(ctx); err != nil {
		return Replay{}, err
	}
	head, err := s.cfg.Log.Head(ctx)
	if err != nil {
		return Replay{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Replay{}, fmt.Errorf("projector: replay id: %w", err)
	}
	for {
		r, err := scanReplay(insert(id, head))
		// Two that start at once conflict on the unique index of the running replay, or on the generation.
		if conflict, _ := errors.AsType[*pgconn.PgError](err); conflict == nil || conflict.Code != uniqueViolation {
			return r, err
		}
		running, err := s.lastReplay(ctx)
		if err != nil {
			return Replay{}, err
		}
		if running != nil && running.State == ReplayRunning {
			return Replay{}, &ReplayRunningError{Replay: *running}
		}
		// The other one has ended meanwhile: try again.
	}
}

// lastReplay returns the running replay, otherwise the last one, or nil if there is none.
func (s *stateStore) lastReplay(ctx context.Context) (*Replay, error) {
	r, err := scanReplay(s.cfg.Pool.QueryRow(ctx, lastReplaySQL, s.def.ID))
	if errors.Is(err, ErrUnknownReplay) {
		return nil, nil
	}
	return &r, err
}

func (s *stateStore) replay(ctx context.Context, id uuid.UUID) (Replay, error) {
	return scanReplay(s.cfg.Pool.QueryRow(ctx, replaySQL, s.def.ID, id))
}

func (s *stateStore) replays(ctx context.Context, limit int) ([]Replay, error) {
	rows, _ := s.cfg.Pool.Query(ctx, replaysSQL, s.def.ID, limit)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Replay, error) { return scanReplay(row) })
	if err != nil {
		return nil, fmt.Errorf("projector: replays of %s: %w", s.def.ID, err)
	}
	return all, nil
}

// cancelReplay ends a running replay. If it is not running, it returns the replay and ErrReplayFinished.
func (s *stateStore) cancelReplay(ctx context.Context, id uuid.UUID) (Replay, error) {
	r, err := scanReplay(s.cfg.Pool.QueryRow(ctx, cancelReplaySQL, s.def.ID, id))
	if !errors.Is(err, ErrUnknownReplay) {
		return r, err
	}
	if r, err = s.replay(ctx, id); err != nil {
		return Replay{}, err
	}
	return r, ErrReplayFinished
}

// failReplay ends a running replay that cannot be finished.
func (s *stateStore) failReplay(ctx context.Context, id uuid.UUID, cause error) error {
	_, err := s.cfg.Pool.Exec(ctx, failReplaySQL, id, textOf(cause))
	return err
}

// restartReplay starts a replay again, in the next generation, with the code of this binary.
func (s *stateStore) restartReplay(ctx context.Context, epoch int64, r *runningReplay) error {
	tag, err := s.cfg.Pool.Exec(ctx, restartReplaySQL, r.id, s.def.Version, r.generation, epoch)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	r.version, r.generation, r.at = s.def.Version, r.generation+1, Checkpoint{}
	return nil
}

// lockLive locks the live generation until tx ends, and returns its state.
func (s *stateStore) lockLive(ctx context.Context, tx pgx.Tx, epoch int64) (live state, err error) {
	var (
		position int64
		event    *uuid.UUID
	)
	err = tx.QueryRow(ctx, lockLiveSQL, s.def.ID, epoch).Scan(&position, &event, &live.status, &live.generation)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errFenced
	}
	live.at = checkpointOf(position, event)
	return live, err
}

// flip completes a replay and makes its generation live at the checkpoint at. truncated is set if the log no longer holds what the live
// generation had applied.
func (s *stateStore) flip(ctx context.Context, tx pgx.Tx, epoch int64, r runningReplay, at Checkpoint, truncated bool) error {
	tag, err := tx.Exec(ctx, completeSQL, r.id)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	tag, err = tx.Exec(ctx, flipSQL, s.def.ID, r.generation, r.version, at.Position, epoch, at.id(), r.kind == KindRollback, truncated)
	return exactlyOne(tag, err)
}
