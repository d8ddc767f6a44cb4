package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errFenced says that a compare-and-set found the state row changed: the projection was paused, its generation
// flipped, or another engine owns it. The owner reads the row again; one that owns it no longer goes back to waiting.
var errFenced = errors.New("the projection's state has changed under its owner")

const (
	// On conflict alone would wait for whoever holds the row, such as an owner in the middle of a batch.
	registerSQL = `insert into projections (id, version, generation)
select $1, $2, 1 where not exists (select from projections where id = $1) on conflict (id) do nothing`

	// The lease is judged and set by the database's clock alone. Taking it raises the epoch, also when the name is our
	// own: then it is that of an earlier life. A lease that ends later than any that is given now was given by a clock
	// that has been set back since, or by that of another server, and is nobody's. A binary older than the one that built
	// the rows keeps its hands off.
	takeSQL = `update projections
set owner = $2, lease_until = clock_timestamp() + $3::interval, epoch = epoch + 1
where id = $1 and version <= $4 and (owner = $2 or lease_until < clock_timestamp() or lease_until > clock_timestamp() + 4 * $3::interval)
returning greatest(version, declined_version), generation, position, last_event_id, status, epoch`

	renewSQL = `update projections set lease_until = clock_timestamp() + $3::interval
where id = $1 and owner = $2 and epoch = $4
returning greatest(version, declined_version), generation, position, last_event_id, status, epoch`

	releaseSQL = `update projections set lease_until = '-infinity', owner = '' where id = $1 and owner = $2 and epoch = $3`

	// The compare-and-set that makes the rows and the checkpoint one: it holds the row lock until commit, so that
	// a stalled owner cannot write behind a new one's back, and renews the lease on the way. The event tells the position
	// from the same one of another log: a failover may give an epoch twice.
	advanceSQL = `update projections
set position = $2, last_event_id = $3, updated_at = clock_timestamp(), status = 'running',
    error_count = 0, last_error = '', error_position = 0,
    lease_until = clock_timestamp() + $4::interval
where id = $1 and epoch = $5 and generation = $6 and position = $7 and last_event_id is not distinct from $8 and status <> 'paused'`

	// What advanceSQL asserts, and the lock it takes, for what is recorded where the checkpoint stays.
	holdSQL = `update projections set lease_until = clock_timestamp() + $2::interval
where id = $1 and epoch = $3 and generation = $4 and position = $5 and last_event_id is not distinct from $6 and status <> 'paused'`

	// A failure that no event was to blame for is over once the log could be read to its end.
	clearHaltSQL = `update projections
set status = 'running', error_count = 0, last_error = '', error_position = 0, updated_at = clock_timestamp()
where id = $1 and epoch = $2 and position = $3 and status = 'halted'`

	// A failure is recorded in a transaction of its own, since that of the batch was rolled back.
	recordHaltSQL = `update projections
set status = 'halted', failures = failures + 1, error_count = error_count + 1, last_error = $2, error_position = $3, updated_at = clock_timestamp()
where id = $1 and epoch = $4 and status <> 'paused'`
)

// state is the part of the projections row that an owner works on.
type state struct {
	version    int // of the code that built the rows, or that an operator has rolled back from
	generation int64
	at         checkpoint
	status     string
	epoch      int64
}

// register enters the projection, once in the life of a database.
func (w *worker) register(ctx context.Context) error {
	if _, err := w.cfg.Pool.Exec(ctx, registerSQL, w.def.ID, w.def.Version); err != nil {
		return fmt.Errorf("projector: register %s: %w", w.def.ID, err)
	}
	return nil
}

// takeLease becomes the owner if nobody is, or takes the lease over from one that has gone silent. ok is false when
// somebody else owns the projection, or when a newer binary has built it.
func (w *worker) takeLease(ctx context.Context) (st state, ok bool, err error) {
	return w.lease(ctx, takeSQL, w.def.Version)
}

// renewLease keeps the lease and reads the state. ok is false when the projection has another owner by now.
func (w *worker) renewLease(ctx context.Context, epoch int64) (st state, ok bool, err error) {
	return w.lease(ctx, renewSQL, epoch)
}

func (w *worker) lease(ctx context.Context, sql string, last any) (st state, ok bool, err error) {
	var (
		position int64
		event    *uuid.UUID
	)
	err = w.cfg.Pool.QueryRow(ctx, sql, w.def.ID, w.cfg.Instance, interval(w.cfg.Lease), last).
		Scan(&st.version, &st.generation, &position, &event, &st.status, &st.epoch)
	st.at = checkpointOf(position, event)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return st, false, nil
	case err != nil:
		return st, false, fmt.Errorf("projector: lease of %s: %w", w.def.ID, err)
	}
	return st, true, nil
}

func (w *worker) releaseLease(ctx context.Context, epoch int64) error {
	if _, err := w.cfg.Pool.Exec(ctx, releaseSQL, w.def.ID, w.cfg.Instance, epoch); err != nil {
		return fmt.Errorf("projector: release of %s: %w", w.def.ID, err)
	}
	return nil
}

// begin runs f in a transaction that the server ends when its client is silent for as long as a lease: it holds the
// lock on the state row, and so could keep the next owner out.
func (w *worker) begin(ctx context.Context, f func(pgx.Tx) error) error {
	options := pgx.TxOptions{
		BeginQuery: fmt.Sprintf("begin; set local idle_in_transaction_session_timeout = %d; set local synchronous_commit = off", max(1, w.cfg.Lease.Milliseconds())),
	}
	return pgx.BeginTxFunc(ctx, w.cfg.Pool, options, f)
}

// liveRow is the checkpoint of a projection's live generation.
type liveRow struct {
	w          *worker
	epoch      int64
	generation int64
}

func (c liveRow) advance(ctx context.Context, tx pgx.Tx, from checkpoint, b *batch) error {
	tag, err := tx.Exec(ctx, advanceSQL, c.w.def.ID, b.last.position, b.last.id(), interval(c.w.cfg.Lease), c.epoch, c.generation,
		from.position, from.id())
	return exactlyOne(tag, err)
}

func (c liveRow) hold(ctx context.Context, tx pgx.Tx, at checkpoint) error {
	tag, err := tx.Exec(ctx, holdSQL, c.w.def.ID, interval(c.w.cfg.Lease), c.epoch, c.generation, at.position, at.id())
	return exactlyOne(tag, err)
}

// refresh renews the lease and reads where the live applier is. errFenced says that the lease is lost.
func (a *applier) refresh(ctx context.Context, epoch int64) error {
	st, ok, err := a.w.renewLease(ctx, epoch)
	switch {
	case err != nil:
		return err
	case !ok:
		return errFenced
	}
	a.previous = nil
	a.row = liveRow{a.w, epoch, st.generation}
	a.generation, a.checkpoint, a.status = st.generation, st.at, st.status
	return a.load(ctx)
}

// clearHalt ends a halt for which there is no cause left.
func (w *worker) clearHalt(ctx context.Context, epoch, position int64) error {
	tag, err := w.cfg.Pool.Exec(ctx, clearHaltSQL, w.def.ID, epoch, position)
	return exactlyOne(tag, err)
}

// recordHalt says in the state row where and why the projection has halted.
func (w *worker) recordHalt(ctx context.Context, epoch, position int64, cause error) error {
	tag, err := w.cfg.Pool.Exec(ctx, recordHaltSQL, w.def.ID, textOf(cause), position, epoch)
	return exactlyOne(tag, err)
}

func exactlyOne(tag pgconn.CommandTag, err error) error {
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 {
		return errFenced
	}
	return nil
}

// interval is a duration as a parameter of type interval.
func interval(d time.Duration) string { return fmt.Sprintf("%d microseconds", d.Microseconds()) }

// maxText bounds what is kept of an error, in bytes: that of a panic has its stack.
const maxText = 8 << 10

// textOf is an error as PostgreSQL can keep it.
func textOf(err error) string {
	text := err.Error()
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), maxText)], "\ufffd"), "\x00", "\ufffd")
}
