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
       lease_until > clock_timestamp()
from projections where id = $1`

	replayColumns = `r.id, r.projection, r.state, r.processed, r.total, r.generation, r.started_at, r.finished_at, r.error,
       extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::float8`

	lastReplaySQL = `select ` + replayColumns + ` from projection_replays r where r.projection = $1
order by r.generation desc limit 1`

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
		st, err := e.status(ctx, e.workers[id], head)
		if err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, nil
}

// Projection answers how one projection stands, or ErrUnknownProjection.
func (e *Engine) Projection(ctx context.Context, id string) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	head, err := e.cfg.Log.Head(ctx)
	if err != nil {
		return Status{}, err
	}
	return e.status(ctx, w, head)
}

func (e *Engine) status(ctx context.Context, w *worker, head int64) (Status, error) {
	if err := w.register(ctx); err != nil { // asked for before the engine has run
		return Status{}, err
	}
	st := Status{ID: w.def.ID}
	var owned bool
	err := e.cfg.Pool.QueryRow(ctx, statusSQL, w.def.ID).Scan(&st.State, &st.Version, &st.Generation, &st.Position, &st.Owner,
		&st.Error, &st.ErrorPosition, &st.UpdatedAt, &owned)
	if err != nil {
		return Status{}, fmt.Errorf("projector: status of %s: %w", w.def.ID, err)
	}
	if !owned {
		st.Owner = ""
	}
	if st.Owner == e.cfg.Instance {
		st.Rate = w.rate.perSecond()
	}
	// The projection may have moved past the head that was read before it.
	st.Head = max(head, st.Position)
	st.Lag = st.Head - st.Position
	if st.Lag > 0 {
		next, err := e.cfg.Log.ReadAfter(ctx, st.Position, 1)
		if err != nil {
			return Status{}, err
		}
		if len(next) > 0 {
			st.LagSeconds = max(0, time.Since(next[0].RecordedAt).Seconds())
		}
	}
	r, err := scanReplay(e.cfg.Pool.QueryRow(ctx, lastReplaySQL, w.def.ID))
	switch {
	case err == nil:
		st.Replay = &r
	case !errors.Is(err, ErrUnknownReplay):
		return Status{}, err
	}
	return st, nil
}

// StartReplay asks for a rebuild of the projection from the whole log; the engine that owns it begins at once. It
// answers ErrUnknownProjection, or *ReplayRunningError when one runs already.
func (e *Engine) StartReplay(ctx context.Context, id string) (Replay, error) {
	w, ok := e.workers[id]
	if !ok {
		return Replay{}, ErrUnknownProjection
	}
	return w.startReplay(ctx)
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
			w.wakeReplay.raise()
			return r, nil
		}
		// Two that start at once may also collide on the generation.
		var conflict *pgconn.PgError
		if !errors.As(err, &conflict) || conflict.Code != uniqueViolation {
			return Replay{}, err
		}
		running, err := scanReplay(w.cfg.Pool.QueryRow(ctx, lastReplaySQL, w.def.ID))
		if err != nil {
			return Replay{}, err
		}
		if running.State == "running" {
			return Replay{}, &ReplayRunningError{Replay: running}
		}
		// It has ended just now: once more.
	}
}

// Replay answers how a replay stands, or ErrUnknownProjection or ErrUnknownReplay.
func (e *Engine) Replay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	if _, ok := e.workers[id]; !ok {
		return Replay{}, ErrUnknownProjection
	}
	return scanReplay(e.cfg.Pool.QueryRow(ctx, replaySQL, id, replayID))
}

// CancelReplay ends a running replay; the live generation is not touched. It answers ErrReplayFinished when the replay
// is over already.
func (e *Engine) CancelReplay(ctx context.Context, id string, replayID uuid.UUID) (Replay, error) {
	if _, ok := e.workers[id]; !ok {
		return Replay{}, ErrUnknownProjection
	}
	r, err := scanReplay(e.cfg.Pool.QueryRow(ctx, cancelReplaySQL, id, replayID))
	if !errors.Is(err, ErrUnknownReplay) {
		return r, err
	}
	if r, err = e.Replay(ctx, id, replayID); err != nil {
		return Replay{}, err
	}
	return r, ErrReplayFinished
}

// Pause stops the projection after the batch it is in, until Resume. Queries go on answering as of then. A replay
// goes on building, but waits for Resume before its generation goes live.
func (e *Engine) Pause(ctx context.Context, id string) (Status, error) {
	return e.control(ctx, id, pauseSQL)
}

// Resume lets a paused projection go on; one that is not paused is left alone.
func (e *Engine) Resume(ctx context.Context, id string) (Status, error) {
	return e.control(ctx, id, resumeSQL)
}

func (e *Engine) control(ctx context.Context, id, sql string) (Status, error) {
	w, ok := e.workers[id]
	if !ok {
		return Status{}, ErrUnknownProjection
	}
	if err := w.register(ctx); err != nil {
		return Status{}, err
	}
	if _, err := e.cfg.Pool.Exec(ctx, sql, id); err != nil {
		return Status{}, fmt.Errorf("projector: control of %s: %w", id, err)
	}
	w.wake.raise()
	return e.Projection(ctx, id)
}

func scanReplay(row pgx.Row) (Replay, error) {
	var (
		r        Replay
		finished *time.Time
		seconds  float64
	)
	err := row.Scan(&r.ID, &r.Projection, &r.State, &r.Processed, &r.Total, &r.Generation, &r.StartedAt, &finished, &r.Error, &seconds)
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
	if seconds > 0 {
		r.Rate = float64(r.Processed) / seconds
	}
	if r.State == "running" && r.Rate > 0 {
		r.ETASeconds = float64(r.Total-r.Processed) / r.Rate
	}
	return r, nil
}
