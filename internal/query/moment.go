package query

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A moment names a position of the log: that of the last event recorded at or before it. The time of an event is taken
// under the append lock and before the commit, so that an append under way may still bring events of a moment that is past.
// Once that cannot happen any more the moment is settled, and what is answered about it never changes:
//
//   - An event recorded later is in the log. No event after that one is recorded earlier. Any database can tell, and no
//     lock is taken; so it is for all moments but fresh ones.
//   - The primary has let us share the append lock, and the moment is past by its clock: appends begun before are
//     committed, and those to come take a later time. The lock means nothing on a replica.
//
// It takes a clock that does not go back: where an operator or a failover sets it back, moments of that span that were asked
// about and had no event after them are not safe.

const (
	momentSQL = `select array(select position_at(m) from unnest($1::timestamptz[]) with ordinality as u(m, n) order by n),
       coalesce((select recorded_at > $2 from events order by position desc limit 1), false),
       $2 < clock_timestamp(), pg_is_in_recovery()`

	// The lock that appends take, until the end of the transaction.
	shareAppendLockSQL = `select set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared(7018230141)`

	// An account that the projection has set aside lacks its events from the row's position on, which will come. $1 is the
	// account, $2 the position asked about; p is its live generation.
	parkedSQL = `exists (select from parked_streams f
    where f.projection = p.projection and f.generation = p.generation and f.stream_id = $1 and f.position <= $2)`

	lockNotAvailable = "55P03"
)

// settleTimeout bounds the wait for an append under way, below the time limits of a statement.
const settleTimeout = 4 * time.Second

// bound is a moment, and the name of the parameter that it came in.
type bound struct {
	parameter string
	at        time.Time
}

// moment is what a database can tell of the latest of several moments.
type moment struct {
	positions              []int64
	passed, past, recovery bool
}

func (m *moment) targets() []any { return []any{&m.positions, &m.passed, &m.past, &m.recovery} }

// positionsAt answers for each bound the position of the last event recorded at or before it, which is settled. The time
// that it takes is taken off the wait. The errors are *FutureError, and ErrBehind when the moment is too fresh to be known.
func (s *Service) positionsAt(ctx context.Context, w *Wait, bounds ...bound) ([]int64, error) {
	began := time.Now()
	defer func() { w.Timeout = max(0, w.Timeout-time.Since(began)) }()
	times, latest := make([]time.Time, len(bounds)), bounds[0]
	for i, b := range bounds {
		times[i] = b.at
		if b.at.After(latest.at) {
			latest = b
		}
	}
	var m moment
	err := again(ctx, s.pool, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, momentSQL, times, latest.at).Scan(m.targets()...)
	})
	if err == nil && !m.passed {
		err = again(ctx, s.primary, func(ctx context.Context) (err error) {
			m, err = underLock(ctx, s.primary, w.Timeout, times, latest.at)
			return err
		})
	}
	refused, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case refused != nil && refused.Code == lockNotAvailable:
		return nil, ErrBehind
	case err != nil:
		return nil, fmt.Errorf("query: moment: %w", err)
	case m.passed:
		return m.positions, nil
	case !m.past:
		return nil, &FutureError{Parameter: latest.parameter}
	case m.recovery: // no primary, so that nobody knows
		return nil, ErrBehind
	}
	return m.positions, nil
}

// underLock asks while nobody appends. The statements go in one round trip, and so in one transaction whose end does not
// wait for us; the second one has a snapshot of its own, taken when the lock was there.
func underLock(ctx context.Context, primary *pgxpool.Pool, timeout time.Duration, times []time.Time, latest time.Time) (m moment, err error) {
	timeout = min(max(timeout, time.Millisecond), settleTimeout) // 0 would be no limit
	var b pgx.Batch
	b.Queue(shareAppendLockSQL, strconv.FormatInt(timeout.Milliseconds(), 10))
	b.Queue(momentSQL, times, latest).QueryRow(func(row pgx.Row) error { return row.Scan(m.targets()...) })
	return m, primary.SendBatch(ctx, &b).Close()
}
