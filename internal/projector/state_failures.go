package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
)

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

	// retry = true: the rest of the stream is due at once.
	drainedSQL = `update projection_failures
set position = $5, event_id = $6, type = $7, waiting = waiting - $8, error = '', attempts = 0, retry = true,
    last_tried_at = clock_timestamp()
where projection = $1 and generation = $2 and stream_id = $3 and position = $4 and parked`

	unparkSQL = `delete from projection_failures
where projection = $1 and generation = $2 and stream_id = $3 and position = $4 and waiting = $5 and parked`

	retryAllSQL = `update projection_failures set retry = true where projection = $1 and generation = $2 and parked`

	failureColumns = `f.position, f.event_id, f.type, f.stream_id, f.error, f.attempts, f.parked, f.waiting, f.retry,
       f.first_failed_at, f.last_tried_at`

	failuresSQL = `select ` + failureColumns + ` from projections p join projection_failures f
    on f.projection = p.id and f.generation = p.generation
where p.id = $1 and f.position > $2 order by f.position limit $3`

	askRetrySQL = `update projection_failures f set retry = true from projections p
where p.id = $1 and f.projection = p.id and f.generation = p.generation and f.position = $2
returning ` + failureColumns
)

// maxAttempts is how often an event is tried before its stream is parked.
const maxAttempts = 4

// forgetFailure deletes the failure of an event that was applied after all.
func (s *stateStore) forgetFailure(ctx context.Context, tx pgx.Tx, generation, position int64) error {
	_, err := tx.Exec(ctx, forgetFailureSQL, s.def.ID, generation, position)
	return err
}

// countWaiting adds the numbers of events that wait to the rows of their parked streams.
func (s *stateStore) countWaiting(ctx context.Context, tx pgx.Tx, generation int64, waiting map[uuid.UUID]int64) error {
	if len(waiting) == 0 {
		return nil
	}
	streams, events := make([]uuid.UUID, 0, len(waiting)), make([]int64, 0, len(waiting))
	for stream, n := range waiting {
		streams, events = append(streams, stream), append(events, n)
	}
	tag, err := tx.Exec(ctx, countWaitingSQL, s.def.ID, generation, streams, events)
	if err == nil && int(tag.RowsAffected()) != len(streams) {
		return errFenced // the parked streams have changed: the caller reads them again
	}
	return err
}

// parkedStream is the row of a parked stream that is due.
type parkedStream struct {
	next    eventstore.Event // the first event that waits, without the fields that the row lacks
	waiting int64
}

// dueStream returns the parked stream to retry next, if one is due.
func (s *stateStore) dueStream(ctx context.Context, generation int64) (p parkedStream, ok bool, err error) {
	err = s.cfg.Pool.QueryRow(ctx, dueSQL, s.def.ID, generation, interval(s.cfg.Retry)).
		Scan(&p.next.StreamID, &p.next.Position, &p.next.EventID, &p.next.Type, &p.waiting)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("projector: parked streams of %s: %w", s.def.ID, err)
	}
	return p, true, nil
}

func scanFailure(row pgx.Row) (f Failure, err error) {
	err = row.Scan(&f.Position, &f.EventID, &f.Type, &f.StreamID, &f.Error, &f.Attempts, &f.Parked, &f.Waiting, &f.RetryAsked,
		&f.FirstFailedAt, &f.LastTriedAt)
	return f, err
}

func (s *stateStore) failures(ctx context.Context, after int64, limit int) ([]Failure, error) {
	rows, _ := s.cfg.Pool.Query(ctx, failuresSQL, s.def.ID, after, limit)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Failure, error) { return scanFailure(row) })
	if err != nil {
		return nil, fmt.Errorf("projector: failures of %s: %w", s.def.ID, err)
	}
	return all, nil
}

// askRetry makes the stream that is parked at a position due at once. It returns ErrUnknownFailure if there is none.
func (s *stateStore) askRetry(ctx context.Context, position int64) (Failure, error) {
	f, err := scanFailure(s.cfg.Pool.QueryRow(ctx, askRetrySQL, s.def.ID, position))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return f, ErrUnknownFailure
	case err != nil:
		return f, fmt.Errorf("projector: retry of %s: %w", s.def.ID, err)
	}
	return f, nil
}

// askRetryAll makes every parked stream of a generation due at once.
func (s *stateStore) askRetryAll(ctx context.Context, generation int64) error {
	_, err := s.cfg.Pool.Exec(ctx, retryAllSQL, s.def.ID, generation)
	return err
}

// loadFailures returns which streams of a generation are parked, and the position of the event that is being retried, or 0.
func (s *stateStore) loadFailures(ctx context.Context, generation int64) (parked map[uuid.UUID]bool, failing int64, err error) {
	rows, _ := s.cfg.Pool.Query(ctx, loadFailuresSQL, s.def.ID, generation) //nolint:rowserrcheck // ForEachRow does
	parked = make(map[uuid.UUID]bool)
	var (
		stream   uuid.UUID
		position int64
		isParked bool
	)
	_, err = pgx.ForEachRow(rows, []any{&stream, &position, &isParked}, func() error {
		if isParked {
			parked[stream] = true
		} else {
			failing = position
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("projector: failures of %s: %w", s.def.ID, err)
	}
	return parked, failing, nil
}

// recordFailure counts a failed attempt to apply an event. After maxAttempts it parks the event's stream, if mayPark is set.
func (s *stateStore) recordFailure(ctx context.Context, tx pgx.Tx, generation int64, e *eventstore.Event, cause error, mayPark bool) (
	attempts int, parked bool, err error,
) {
	if _, err := tx.Exec(ctx, countFailureSQL, s.def.ID); err != nil {
		return 0, false, err
	}
	err = tx.QueryRow(ctx, recordFailureSQL, s.def.ID, generation, e.StreamID, e.Position, e.EventID, e.Type,
		textOf(cause), maxAttempts, mayPark).Scan(&attempts, &parked)
	return attempts, parked, err
}

// drained records that the first n waiting events of a parked stream were applied, and that the stream continues with next.
func (s *stateStore) drained(ctx context.Context, tx pgx.Tx, generation int64, p parkedStream, n int64, next *eventstore.Event) error {
	tag, err := tx.Exec(ctx, drainedSQL, s.def.ID, generation, p.next.StreamID, p.next.Position, next.Position, next.EventID, next.Type, n)
	return exactlyOne(tag, err)
}

// unpark deletes the row of a parked stream with no events left to apply.
func (s *stateStore) unpark(ctx context.Context, tx pgx.Tx, generation int64, p parkedStream) error {
	tag, err := tx.Exec(ctx, unparkSQL, s.def.ID, generation, p.next.StreamID, p.next.Position, p.waiting)
	return exactlyOne(tag, err)
}
