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
	// Streams parked in the generation that a replay builds, while it does.
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

	// The next generation is above every one that ever was, so that rows of a cancelled replay are never taken over.
	startReplaySQL = `insert into projection_replays as r (id, projection, version, generation, total)
select $1, p.id, greatest(p.version, $3), 1 + greatest(p.generation, coalesce((select max(generation) from projection_replays o where o.projection = p.id), 0)), $4
from projections p where p.id = $2
returning ` + replayColumns

	cancelReplaySQL = `update projection_replays r set state = 'cancelled', finished_at = clock_timestamp()
where r.projection = $1 and r.id = $2 and r.state = 'running' returning ` + replayColumns

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

	// The row lock waits for a flip under way, so that the previous generation is the one it leaves: the insert alone would
	// wait for it too, for the end of the other replay, but with the row as it was before.
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

// runningReplay is a replay or rollback as its owner works on it.
type runningReplay struct {
	id         uuid.UUID
	kind       ReplayKind
	version    int // of the code that folds it
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

// checkParked fails when the new generation has streams parked that the live one has not, or not so far back.
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

// startReplay enters a replay that builds the next generation up to a head. It returns *ReplayRunningError when one runs.
func (s *stateStore) startReplay(ctx context.Context) (Replay, error) {
	return s.start(ctx, func(id uuid.UUID, head int64) pgx.Row {
		return s.cfg.Pool.QueryRow(ctx, startReplaySQL, id, s.def.ID, s.def.Version, head)
	})
}

// startRollback enters a replay that takes the previous generation up to a head. It returns ErrNoPreviousGeneration, or
// *ReplayRunningError when one runs.
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
		// Two that start at once collide on being the running one, or on the generation.
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
		// The other one has ended in the meantime: once more.
	}
}

// lastReplay returns the running replay, or else the last one, or nil.
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

// cancelReplay ends a replay that is running. It returns ErrReplayFinished, with the replay, when it is not.
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

// restartReplay begins a replay again, in the generation after its own, with the code of this binary.
func (s *stateStore) restartReplay(ctx context.Context, epoch int64, r *runningReplay) error {
	tag, err := s.cfg.Pool.Exec(ctx, restartReplaySQL, r.id, s.def.Version, r.generation, epoch)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	r.version, r.generation, r.at = s.def.Version, r.generation+1, Checkpoint{}
	return nil
}

// lockLive keeps the live generation where it is until tx ends, and returns its state.
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

// flip completes a replay and makes its generation, which is at a checkpoint, the live one. truncated says that the log
// no longer holds what the live one had applied.
func (s *stateStore) flip(ctx context.Context, tx pgx.Tx, epoch int64, r runningReplay, at Checkpoint, truncated bool) error {
	tag, err := tx.Exec(ctx, completeSQL, r.id)
	if err := exactlyOne(tag, err); err != nil {
		return err
	}
	tag, err = tx.Exec(ctx, flipSQL, s.def.ID, r.generation, r.version, at.Position, epoch, at.id(), r.kind == KindRollback, truncated)
	return exactlyOne(tag, err)
}
