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

// A time in the past stands for a position of the log: that of the last event recorded at or before it. An event's time is
// taken under the append lock and before the commit, so an append in progress may still add events with a time that has
// passed. Once that can no longer happen, the position is final, and results as of that time never change. Either of two facts
// proves it:
//
//   - The log has an event recorded later. No event after that one is recorded earlier. A replica can tell too, without a
//     lock. This holds for all times but the most recent.
//   - The primary has granted the append lock, shared, and the time has passed by its clock: earlier appends are committed,
//     and later ones take a later time. The lock means nothing on a replica, and on a follower, whose log another Passbook writes.
//
// This relies on a clock that does not go back. If an operator or a failover sets it back, results as of the repeated time that
// were returned before the log had a later event are not final.

const (
	positionsAtSQL = `select array(select position_at(m) from unnest($1::timestamptz[]) with ordinality as u(m, n) order by n),
       coalesce((select recorded_at > $2 from events order by position desc limit 1), false),
       $2 < clock_timestamp(), pg_is_in_recovery()`

	// The lock that appends take, until the end of the transaction.
	shareAppendLockSQL = `select set_config('lock_timeout', $1, true), pg_advisory_xact_lock_shared(7018230141)`

	// A parked account lacks its events from the row's position on until a retry applies them. $1 is the account, $2 the
	// position asked about; p is the live generation.
	parkedSQL = `exists (select from parked_streams f
    where f.projection = p.projection and f.generation = p.generation and f.stream_id = $1 and f.position <= $2)`

	lockNotAvailable = "55P03"
	inArchive        = "PB001" // raised by position_at, with the first position that the log has
)

// appendTimeout bounds the wait for an append in progress, below the timeouts of a statement.
const appendTimeout = 4 * time.Second

// bound is a time, and the name of the parameter that it came in.
type bound struct {
	parameter string
	at        time.Time
}

// resolution is what a database says about several times.
type resolution struct {
	positions []int64
	// overtaken says that an event was recorded after the latest of the times, past that the clock has passed it, and recovery
	// that the database is a standby.
	overtaken, past, recovery bool
}

func (r *resolution) targets() []any { return []any{&r.positions, &r.overtaken, &r.past, &r.recovery} }

// positionsAt returns for each bound the position of the last event recorded at or before it, which is final. It
// deducts the time it takes from w.Timeout. The errors are *FutureError, *ArchivedError, and ErrBehind when the position is not final yet.
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
	var r resolution
	err := withRetry(ctx, s.pool, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, positionsAtSQL, times, latest.at).Scan(r.targets()...)
	})
	if err == nil && !r.overtaken && r.past && s.follower {
		return nil, ErrBehind
	}
	if err == nil && !r.overtaken {
		err = withRetry(ctx, s.primary, func(ctx context.Context) (err error) {
			r, err = resolveLocked(ctx, s.primary, w.Timeout, times, latest.at)
			return err
		})
	}
	refused, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case refused != nil && refused.Code == lockNotAvailable:
		return nil, ErrBehind
	case refused != nil && refused.Code == inArchive:
		first, _ := strconv.ParseInt(refused.Detail, 10, 64)
		return nil, &ArchivedError{first}
	case err != nil:
		return nil, fmt.Errorf("query: positions at a time: %w", err)
	case r.overtaken:
		return r.positions, nil
	case !r.past:
		return nil, &FutureError{Parameter: latest.parameter}
	case r.recovery: // only a primary can tell
		return nil, ErrBehind
	}
	return r.positions, nil
}

// resolveLocked resolves times while no append is in progress. Both statements go in one round trip, and so in one
// transaction that ends without waiting for the client; the second has a snapshot of its own, taken under the lock.
func resolveLocked(ctx context.Context, primary *pgxpool.Pool, timeout time.Duration, times []time.Time, latest time.Time) (r resolution, err error) {
	timeout = min(max(timeout, time.Millisecond), appendTimeout) // 0 would be no limit
	var b pgx.Batch
	b.Queue(shareAppendLockSQL, strconv.FormatInt(timeout.Milliseconds(), 10))
	b.Queue(positionsAtSQL, times, latest).QueryRow(func(row pgx.Row) error { return row.Scan(r.targets()...) })
	return r, primary.SendBatch(ctx, &b).Close()
}
