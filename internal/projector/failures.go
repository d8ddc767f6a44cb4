package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	failureColumns = `f.position, f.event_id, f.type, f.stream_id, f.error, f.attempts, f.parked, f.waiting, f.retry,
       f.first_failed_at, f.last_tried_at`

	failuresSQL = `select ` + failureColumns + ` from projections p join projection_failures f
    on f.projection = p.id and f.generation = p.generation
where p.id = $1 and f.position > $2 order by f.position limit $3`

	askRetrySQL = `update projection_failures f set retry = true from projections p
where p.id = $1 and f.projection = p.id and f.generation = p.generation and f.position = $2
returning ` + failureColumns
)

// ErrUnknownFailure says that the projection's live generation has no failure at that position: it may be healed.
var ErrUnknownFailure = errors.New("no such failure")

// Failure is an event that the live generation could not apply, and with it its stream.
type Failure struct {
	// Position, EventID and Type are those of the event; StreamID is the account's.
	Position int64
	EventID  uuid.UUID
	Type     string
	StreamID uuid.UUID
	// Error is that of the last try. It is empty, and Attempts 0, when the event was not tried: those of its stream
	// before it have just been applied.
	Error    string
	Attempts int
	// Parked is false while the first few tries are made, for which the whole projection waits.
	Parked bool
	// Waiting is how many events of the stream are to be applied, this one included; 0 until it is parked.
	Waiting int64
	// RetryAsked says that the owner is about to try.
	RetryAsked                 bool
	FirstFailedAt, LastTriedAt time.Time
}

// Failures answers at most limit failures after a position, in the order of their positions; or ErrUnknownProjection.
func (e *Engine) Failures(ctx context.Context, id string, after int64, limit int) ([]Failure, error) {
	p, ok := e.runners[id]
	if !ok {
		return nil, ErrUnknownProjection
	}
	return p.failures(ctx, after, limit)
}

// RetryFailure asks for the stream that is parked at a position to be drained: its events are applied in order, until
// none waits or one fails. The instance that owns the projection does it, at once when it is this one. The errors are
// ErrUnknownProjection and ErrUnknownFailure.
func (e *Engine) RetryFailure(ctx context.Context, id string, position int64) (Failure, error) {
	p, ok := e.runners[id]
	if !ok {
		return Failure{}, ErrUnknownProjection
	}
	return p.askRetry(ctx, position)
}

func (w *worker) failures(ctx context.Context, after int64, limit int) ([]Failure, error) {
	rows, _ := w.cfg.Pool.Query(ctx, failuresSQL, w.def.ID, after, limit)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Failure, error) { return scanFailure(row) })
	if err != nil {
		return nil, fmt.Errorf("projector: failures of %s: %w", w.def.ID, err)
	}
	return all, nil
}

func (w *worker) askRetry(ctx context.Context, position int64) (Failure, error) {
	f, err := scanFailure(w.cfg.Pool.QueryRow(ctx, askRetrySQL, w.def.ID, position))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return f, ErrUnknownFailure
	case err != nil:
		return f, fmt.Errorf("projector: retry of %s: %w", w.def.ID, err)
	}
	w.retryAsked.Store(true)
	w.wake.set()
	return f, nil
}

func scanFailure(row pgx.Row) (f Failure, err error) {
	err = row.Scan(&f.Position, &f.EventID, &f.Type, &f.StreamID, &f.Error, &f.Attempts, &f.Parked, &f.Waiting, &f.RetryAsked,
		&f.FirstFailedAt, &f.LastTriedAt)
	return f, err
}
