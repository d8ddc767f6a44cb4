package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
)

// An event that a handler cannot apply is tried a few times. Then its stream is parked: the checkpoint moves on over
// the stream's events, which are counted in its row of projection_failures in the same transaction, and every other
// stream goes on. What was applied and what is parked make up the log, always: a parked stream waits for its events
// from the row's position up to the checkpoint. They are read from the log again, in order, when the stream is tried.
// All of it holds the checkpoint, so that an owner that was replaced can no more park or drain than it can apply.

const (
	loadFailuresSQL = `select stream_id, position, parked from projection_failures where projection = $1 and generation = $2`

	countFailureSQL = `update projections set failures = failures + 1 where id = $1`

	recordFailureSQL = `insert into projection_failures as f
    (projection, generation, stream_id, position, event_id, type, error, attempts, parked)
values ($1, $2, $3, $4, $5, $6, $7, 1, false)
on conflict (projection, generation, stream_id) do update
set position = excluded.position, event_id = excluded.event_id, type = excluded.type, error = excluded.error,
    attempts = case when f.position = excluded.position then f.attempts + 1 else 1 end,
    parked = f.parked or (f.position = excluded.position and f.attempts + 1 >= $8 and $9),
    first_failed_at = case when f.position = excluded.position then f.first_failed_at else clock_timestamp() end,
    retry = false, last_tried_at = clock_timestamp()
returning attempts, parked`

	forgetFailureSQL = `delete from projection_failures where projection = $1 and generation = $2 and position = $3 and not parked`

	countWaitingSQL = `update projection_failures f set waiting = f.waiting + u.events
from unnest($3::uuid[], $4::bigint[]) as u(stream_id, events)
where f.projection = $1 and f.generation = $2 and f.stream_id = u.stream_id and f.parked`

	dueSQL = `select stream_id, position, event_id, type, waiting from projection_failures
where projection = $1 and generation = $2 and parked and waiting > 0
  and (retry or last_tried_at < clock_timestamp() - $3::interval)
order by retry desc, last_tried_at limit 1`

	// What is left of a stream is gone on with at once.
	drainedSQL = `update projection_failures
set position = $5, event_id = $6, type = $7, waiting = waiting - $8, error = '', attempts = 0, retry = true,
    last_tried_at = clock_timestamp()
where projection = $1 and generation = $2 and stream_id = $3 and position = $4 and parked`

	unparkSQL = `delete from projection_failures
where projection = $1 and generation = $2 and stream_id = $3 and position = $4 and waiting = $5 and parked`

	retryAllSQL = `update projection_failures set retry = true where projection = $1 and generation = $2 and parked`
)

const (
	// maxAttempts is how often an event is tried before its stream is parked.
	maxAttempts = 4
	// firstRetryDelay is the pause after the first of them, each further one being twice as long: 0.35 s in all.
	firstRetryDelay = 50 * time.Millisecond
)

// load reads which streams are parked in the applier's generation, and which event is being tried.
func (a *applier) load(ctx context.Context) error {
	rows, _ := a.w.cfg.Pool.Query(ctx, loadFailuresSQL, a.w.def.ID, a.generation) //nolint:rowserrcheck // ForEachRow does
	parked, failing := make(map[uuid.UUID]bool), int64(0)
	var (
		stream   uuid.UUID
		position int64
		aside    bool
	)
	_, err := pgx.ForEachRow(rows, []any{&stream, &position, &aside}, func() error {
		if aside {
			parked[stream] = true
		} else {
			failing = position
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("projector: failures of %s: %w", a.w.def.ID, err)
	}
	a.parked, a.failing = parked, failing
	return nil
}

// failed records that an event could not be applied, and either waits a little or parks its stream: then the error is
// errRetryNow. It is another when too many streams are parked already, so that the reason will not be in the events.
func (a *applier) failed(ctx context.Context, cause *EventError) error {
	a.w.warn(ctx, "applying an event failed", cause)
	attempts, parked, err := a.record(ctx, cause.event, cause.Err)
	switch {
	case err != nil:
		return err
	case parked:
		a.parked[cause.event.StreamID], a.failing = true, 0
		a.w.cfg.Logger.ErrorContext(ctx, "a stream is parked", "projection", a.w.def.ID, "generation", a.generation,
			"stream", cause.event.StreamID, "position", cause.Position, "error", cause.Err)
		return errRetryNow
	case attempts >= maxAttempts:
		return fmt.Errorf("%d streams are parked, and no more may be: %w", len(a.parked), cause)
	}
	a.failing = cause.Position
	sleep(ctx, firstRetryDelay<<(attempts-1))
	return errRetryNow
}

// record keeps a failure, in a transaction of its own, since that of the batch is rolled back.
func (a *applier) record(ctx context.Context, e *eventstore.Event, cause error) (attempts int, parked bool, err error) {
	err = a.w.begin(ctx, func(tx pgx.Tx) error {
		if err := a.row.hold(ctx, tx, a.checkpoint); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, countFailureSQL, a.w.def.ID); err != nil {
			return err
		}
		return tx.QueryRow(ctx, recordFailureSQL, a.w.def.ID, a.generation, e.StreamID, e.Position, e.EventID, e.Type,
			textOf(cause), maxAttempts, len(a.parked) < a.w.cfg.MaxParked).Scan(&attempts, &parked)
	})
	return attempts, parked, err
}

// forgetFailure removes the failure of an event that could be applied in the end.
func (a *applier) forgetFailure(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, forgetFailureSQL, a.w.def.ID, a.generation, a.failing)
	return err
}

// countWaiting adds to the parked streams the events that wait for them.
func (a *applier) countWaiting(ctx context.Context, tx pgx.Tx, waiting map[uuid.UUID]int64) error {
	if len(waiting) == 0 {
		return nil
	}
	streams, events := make([]uuid.UUID, 0, len(waiting)), make([]int64, 0, len(waiting))
	for stream, n := range waiting {
		streams, events = append(streams, stream), append(events, n)
	}
	tag, err := tx.Exec(ctx, countWaitingSQL, a.w.def.ID, a.generation, streams, events)
	if err == nil && int(tag.RowsAffected()) != len(streams) {
		return errFenced // what is parked has changed under us: it is read again
	}
	return err
}

// parkedStream is the row of a stream that is to be tried.
type parkedStream struct {
	next    eventstore.Event // the first event that waits; of it, what the row holds
	waiting int64
}

// retry tries a parked stream, if one is due: it applies the stream's next events, as many as a batch holds, and
// reports whether it has tried. The rows and the parked stream's move in one transaction.
func (a *applier) retry(ctx context.Context) (bool, error) {
	if len(a.parked) == 0 || time.Now().Before(a.nextRetry) {
		return false, nil
	}
	p, ok, err := a.due(ctx)
	if err != nil || !ok {
		a.nextRetry = time.Now().Add(a.w.cfg.Poll)
		return false, err
	}
	// One more than is applied, to know where the stream goes on.
	want := min(int64(a.retryLimit), p.waiting)
	events, err := a.w.cfg.Log.Select(ctx, p.next.Position-1, a.position, eventstore.Selection{StreamID: p.next.StreamID}, int(want)+1)
	if err != nil {
		return true, err
	}
	if int64(len(events)) < min(want+1, p.waiting) || events[0].EventID != p.next.EventID {
		return true, a.recordStillParked(ctx, &p.next, fmt.Errorf("%w: not all events that wait can be found", ErrGap))
	}
	b, err := a.w.fold(events[:want], nil)
	if b.count == 0 {
		return true, a.recordStillParked(ctx, &p.next, err)
	}
	err = a.w.begin(ctx, func(tx pgx.Tx) error { return a.drain(ctx, tx, p, b, events) })
	switch {
	case err == nil:
		a.retryLimit = min(2*a.retryLimit, a.maxLimit)
		if b.count == p.waiting {
			delete(a.parked, p.next.StreamID)
			a.w.cfg.Logger.InfoContext(ctx, "a parked stream goes on", "projection", a.w.def.ID, "stream", p.next.StreamID)
		}
	case a.w.cfg.Transient(err), errors.Is(err, errFenced), ctx.Err() != nil:
		return true, err
	case b.count > 1:
		a.retryLimit = int(b.count / 2)
	default:
		return true, a.recordStillParked(ctx, &p.next, err)
	}
	return true, nil
}

// recordStillParked records that a parked stream could not be drained.
func (a *applier) recordStillParked(ctx context.Context, e *eventstore.Event, cause error) error {
	if at, ok := errors.AsType[*EventError](cause); ok {
		cause = at.Err // the row says which event it is
	}
	a.w.warn(ctx, "a parked stream stays parked", &EventError{Position: e.Position, Err: cause})
	_, _, err := a.record(ctx, e, cause)
	return err
}

// drain writes events of a parked stream and takes them off those that wait.
func (a *applier) drain(ctx context.Context, tx pgx.Tx, p parkedStream, b *batch, events []eventstore.Event) error {
	if err := a.row.hold(ctx, tx, a.checkpoint); err != nil {
		return err
	}
	if err := b.flush(ctx, tx, a.generation); err != nil {
		return err
	}
	if b.count == p.waiting {
		tag, err := tx.Exec(ctx, unparkSQL, a.w.def.ID, a.generation, p.next.StreamID, p.next.Position, p.waiting)
		return exactlyOne(tag, err)
	}
	next := &events[b.count]
	tag, err := tx.Exec(ctx, drainedSQL, a.w.def.ID, a.generation, p.next.StreamID, p.next.Position, next.Position,
		next.EventID, next.Type, b.count)
	return exactlyOne(tag, err)
}

// due answers the parked stream that is to be tried next, if there is one.
func (a *applier) due(ctx context.Context) (p parkedStream, ok bool, err error) {
	err = a.w.cfg.Pool.QueryRow(ctx, dueSQL, a.w.def.ID, a.generation, interval(a.w.cfg.Retry)).
		Scan(&p.next.StreamID, &p.next.Position, &p.next.EventID, &p.next.Type, &p.waiting)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("projector: parked streams of %s: %w", a.w.def.ID, err)
	}
	return p, true, nil
}

// retryAll tries every parked stream once.
func (a *applier) retryAll(ctx context.Context) error {
	if len(a.parked) == 0 {
		return nil
	}
	if _, err := a.w.cfg.Pool.Exec(ctx, retryAllSQL, a.w.def.ID, a.generation); err != nil {
		return err
	}
	a.nextRetry = time.Time{}
	for ctx.Err() == nil {
		if tried, err := a.retry(ctx); err != nil || !tried {
			return err
		}
	}
	return ctx.Err()
}
