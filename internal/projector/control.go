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
	statusSQL = `select status, version, generation, position, owner, last_error, error_position, updated_at,
       lease_until > clock_timestamp(), failures, coalesce(previous_generation, 0),
       (select count(*) from projection_failures f where f.projection = p.id and f.generation = p.generation and f.parked)
from projections p where id = $1`

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

	pauseSQL = `update projections set status = 'paused' where id = $1`

	// A failure from before the pause comes again, if it does.
	resumeSQL = `update projections set status = 'running', error_count = 0, last_error = '', error_position = 0
where id = $1 and status = 'paused'`

	uniqueViolation = "23505"
)

// Projections answers how every projection stands, in the order of their registration.
func (e *Engine) Projections(ctx context.Context) ([]Status, error) {
	head, err := e.cfg.Log.Head(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(e.order))
	for _, id := range e.order {
		st, err := e.runners[id].status(ctx, head)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// Projection answers how one projection stands, or ErrUnknownProjection.
func (e *Engine) Projection(ctx context.Context, id string) (Status, error) {
	p, ok := e.runners[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	head, err := e.cfg.Log.Head(ctx)
	if err != nil {
		return Status{}, err
	}
	return p.status(ctx, head)
}

func (w *worker) status(ctx context.Context, head int64) (Status, error) {
	st, err := w.stored(ctx)
	// Asked for before the engine has run. Nothing is written otherwise: the database may be read-only.
	if errors.Is(err, pgx.ErrNoRows) {
		if err = w.register(ctx); err == nil {
			st, err = w.stored(ctx)
		}
	}
	if err != nil {
		return Status{}, fmt.Errorf("projector: status of %s: %w", w.def.ID, err)
	}
	if st.Owner == w.cfg.Instance {
		st.Rate = w.rate.perSecond()
	}
	if err := st.setLag(ctx, w.cfg.Log, head); err != nil {
		return Status{}, err
	}
	r, err := scanReplay(w.cfg.Pool.QueryRow(ctx, lastReplaySQL, w.def.ID))
	switch {
	case err == nil:
		st.Replay = &r
	case !errors.Is(err, ErrUnknownReplay):
		return Status{}, err
	}
	return st, nil
}

// stored is the part of a status that is in the projection's row.
func (w *worker) stored(ctx context.Context) (Status, error) {
	st := Status{ID: w.def.ID}
	var owned bool
	err := w.cfg.Pool.QueryRow(ctx, statusSQL, w.def.ID).Scan(&st.State, &st.Version, &st.Generation, &st.Position, &st.Owner,
		&st.Error, &st.ErrorPosition, &st.UpdatedAt, &owned, &st.Failures, &st.PreviousGeneration, &st.Parked)
	if !owned {
		st.Owner = ""
	}
	return st, err
}

// setLag fills in how far the projection is behind the log's head.
func (st *Status) setLag(ctx context.Context, log Log, head int64) error {
	if st.Position > head { // it has moved past the head that was read before it, or the log has gone back
		var err error
		if head, err = log.Head(ctx); err != nil {
			return err
		}
	}
	st.Head, st.Lag = head, max(0, head-st.Position)
	if st.Lag == 0 {
		return nil
	}
	next, err := log.ReadAfter(ctx, st.Position, 1)
	if len(next) > 0 {
		st.LagSeconds = max(0, time.Since(next[0].RecordedAt).Seconds())
	}
	return err
}

// StartReplay asks for a rebuild of the projection from the whole log; the engine that owns it begins at once. It
// answers ErrUnknownProjection, or *ReplayRunningError when one runs already.
func (e *Engine) StartReplay(ctx context.Context, id string) (Replay, error) {
	p, ok := e.runners[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return p.startReplay(ctx)
}

func (w *worker) startReplay(ctx context.Context) (Replay, error) {
	if err := w.register(ctx); err != nil {
		return Replay{}, err
	}
	head, err := w.cfg.Log.Head(ctx)
	if err != nil {
		return Replay{}, err
	}
	replayID, err := uuid.NewV7()
	if err != nil {
		return Replay{}, fmt.Errorf("projector: replay id: %w", err)
	}
	for {
		r, err := scanReplay(w.cfg.Pool.QueryRow(ctx, startReplaySQL, replayID, w.def.ID, w.def.Version, head))
		if err == nil {
			w.wakeReplay.set()
			return r, nil
		}
		// Two that start at once may also collide on the generation.
		var conflict *pgconn.PgError
		if !errors.As(err, &conflict) || conflict.Code != uniqueViolation {
			return Replay{}, err
		}
		if err := w.refuseSecond(ctx); err != nil {
			return Replay{}, err
		}
		// It has ended just now: once more.
	}
}

// Replay answers how a replay stands, or ErrUnknownProjection or ErrUnknownReplay. One of a projection in memory is
// known to the instance that runs it alone.
func (e *Engine) Replay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	p, ok := e.runners[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return p.replayOf(ctx, replayID)
}

func (w *worker) replayOf(ctx context.Context, replayID uuid.UUID) (Replay, error) {
	return scanReplay(w.cfg.Pool.QueryRow(ctx, replaySQL, w.def.ID, replayID))
}

// Replays answers the projection's last replays and rollbacks, at most limit, the last one first; or
// ErrUnknownProjection.
func (e *Engine) Replays(ctx context.Context, id string, limit int) ([]Replay, error) {
	p, ok := e.runners[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return p.history(ctx, limit)
}

func (w *worker) history(ctx context.Context, limit int) ([]Replay, error) {
	rows, _ := w.cfg.Pool.Query(ctx, replaysSQL, w.def.ID, limit)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Replay, error) { return scanReplay(row) })
	if err != nil {
		return nil, fmt.Errorf("projector: replays of %s: %w", w.def.ID, err)
	}
	return all, nil
}

// CancelReplay ends a running replay; the live generation is not touched. It answers ErrReplayFinished when the replay
// is over already.
func (e *Engine) CancelReplay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	p, ok := e.runners[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return p.cancelReplay(ctx, replayID)
}

func (w *worker) cancelReplay(ctx context.Context, replayID uuid.UUID) (Replay, error) {
	r, err := scanReplay(w.cfg.Pool.QueryRow(ctx, cancelReplaySQL, w.def.ID, replayID))
	if !errors.Is(err, ErrUnknownReplay) {
		return r, err
	}
	if r, err = w.replayOf(ctx, replayID); err != nil {
		return Replay{}, err
	}
	return r, ErrReplayFinished
}

// Pause stops the projection after the batch it is in, until Resume. Queries go on answering as of then. A replay
// goes on building, but waits for Resume before its generation goes live. A projection in memory is paused on this
// instance alone.
func (e *Engine) Pause(ctx context.Context, id string) (Status, error) {
	return e.setPaused(ctx, id, true)
}

// Resume lets a paused projection go on; one that is not paused is left alone.
func (e *Engine) Resume(ctx context.Context, id string) (Status, error) {
	return e.setPaused(ctx, id, false)
}

func (e *Engine) setPaused(ctx context.Context, id string, paused bool) (Status, error) {
	p, ok := e.runners[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	if err := p.setPaused(ctx, paused); err != nil {
		return Status{}, err
	}
	return e.Projection(ctx, id)
}

func (w *worker) setPaused(ctx context.Context, paused bool) error {
	if err := w.register(ctx); err != nil {
		return err
	}
	sql := resumeSQL
	if paused {
		sql = pauseSQL
	}
	if _, err := w.cfg.Pool.Exec(ctx, sql, w.def.ID); err != nil {
		return fmt.Errorf("projector: control of %s: %w", w.def.ID, err)
	}
	w.wake.set()
	return nil
}

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

// setRate fills in the speed of a replay that has taken so many seconds.
func (r *Replay) setRate(seconds float64) {
	if seconds > 0 && r.Kind != rollback { // which has not begun at 0
		r.Rate = float64(r.Processed) / seconds
	}
	if r.State == "running" && r.Rate > 0 {
		r.ETASeconds = float64(r.Total-r.Processed) / r.Rate
	}
}
