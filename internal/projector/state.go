package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

	pauseSQL = `update projections set status = 'paused' where id = $1`

	// A failure from before the pause comes again, if it does.
	resumeSQL = `update projections set status = 'running', error_count = 0, last_error = '', error_position = 0
where id = $1 and status = 'paused'`

	uniqueViolation = "23505"

	// On conflict alone would wait for the transaction that has locked the row, such as a batch of the owner.
	registerSQL = `insert into projections (id, version, generation)
select $1, $2, 1 where not exists (select from projections where id = $1) on conflict (id) do nothing`

	// The lease is judged and set by the database's clock alone. Taking it raises the epoch, also when the name is our
	// own: then it is that of an earlier life. A lease that ends later than any that is given now was given by a clock
	// that has been set back since, or by that of another server, and is void. A binary older than the one that built
	// the rows does not take it.
	takeSQL = `update projections
set owner = $2, lease_until = clock_timestamp() + $3::interval, epoch = epoch + 1
where id = $1 and version <= $4 and (owner = $2 or lease_until < clock_timestamp() or lease_until > clock_timestamp() + 4 * $3::interval)
returning greatest(version, declined_version), generation, position, last_event_id, status, epoch`

	renewSQL = `update projections set lease_until = clock_timestamp() + $3::interval
where id = $1 and owner = $2 and epoch = $4
returning greatest(version, declined_version), generation, position, last_event_id, status, epoch`

	readSQL = `select greatest(version, declined_version), generation, position, last_event_id, status, epoch from projections
where id = $1`

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

// stateStore reads and writes what PostgreSQL holds of one projection: its row in projections, in this file, its replays and
// its failures, in the next two. No other code touches these three tables.
type stateStore struct {
	cfg *Config
	def *Projection

	flipping sync.Mutex // held while a Store is flipped, and by the live applier while it applies to one
}

// stored is the part of a status that is in the projection's row.
func (s *stateStore) stored(ctx context.Context) (Status, error) {
	st := Status{ID: s.def.ID}
	var owned bool
	err := s.cfg.Pool.QueryRow(ctx, statusSQL, s.def.ID).Scan(&st.State, &st.Version, &st.Generation, &st.Position, &st.Owner,
		&st.Error, &st.ErrorPosition, &st.UpdatedAt, &owned, &st.Failures, &st.PreviousGeneration, &st.Parked)
	if !owned {
		st.Owner = ""
	}
	return st, err
}

// errFenced says that a compare-and-set found the state row changed: the projection was paused, its generation
// flipped, or another engine owns it. The owner reads the row again; one that owns it no longer goes back to waiting.
var errFenced = errors.New("the projection's state has changed under its owner")

// state is the part of the projections row that an owner works on.
type state struct {
	version    int // of the code that built the rows, or that an operator has rolled back from
	generation int64
	at         Checkpoint
	status     State
	epoch      int64
}

// register enters the projection, once in the life of a database.
func (s *stateStore) register(ctx context.Context) error {
	if _, err := s.cfg.Pool.Exec(ctx, registerSQL, s.def.ID, s.def.Version); err != nil {
		return fmt.Errorf("projector: register %s: %w", s.def.ID, err)
	}
	return nil
}

// takeLease becomes the owner if there is none, or takes the lease over from one that has gone silent. ok is false when
// another instance owns the projection, or when a newer binary has built it.
func (s *stateStore) takeLease(ctx context.Context) (st state, ok bool, err error) {
	return s.lease(ctx, takeSQL, s.def.Version)
}

// renewLease keeps the lease and reads the state. ok is false when the projection has another owner by now.
func (s *stateStore) renewLease(ctx context.Context, epoch int64) (st state, ok bool, err error) {
	return s.lease(ctx, renewSQL, epoch)
}

func (s *stateStore) lease(ctx context.Context, sql string, last any) (st state, ok bool, err error) {
	return s.readState(ctx, sql, s.def.ID, s.cfg.Instance, interval(s.cfg.Lease), last)
}

func (s *stateStore) readState(ctx context.Context, sql string, args ...any) (st state, ok bool, err error) {
	var (
		position int64
		event    *uuid.UUID
	)
	err = s.cfg.Pool.QueryRow(ctx, sql, args...).
		Scan(&st.version, &st.generation, &position, &event, &st.status, &st.epoch)
	st.at = checkpointOf(position, event)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return st, false, nil
	case err != nil:
		return st, false, fmt.Errorf("projector: lease of %s: %w", s.def.ID, err)
	}
	return st, true, nil
}

func (s *stateStore) releaseLease(ctx context.Context, epoch int64) error {
	if _, err := s.cfg.Pool.Exec(ctx, releaseSQL, s.def.ID, s.cfg.Instance, epoch); err != nil {
		return fmt.Errorf("projector: release of %s: %w", s.def.ID, err)
	}
	return nil
}

// begin runs f in a transaction that the server ends when its client is silent for as long as a lease: it holds the
// lock on the state row, and so could keep the next owner out.
func (s *stateStore) begin(ctx context.Context, f func(pgx.Tx) error) error {
	options := pgx.TxOptions{
		BeginQuery: fmt.Sprintf("begin; set local idle_in_transaction_session_timeout = %d; set local synchronous_commit = off", max(1, s.cfg.Lease.Milliseconds())),
	}
	return pgx.BeginTxFunc(ctx, s.cfg.Pool, options, f)
}

// liveRow is the checkpoint of a projection's live generation.
type liveRow struct {
	s          *stateStore
	epoch      int64
	generation int64
}

func (row liveRow) advance(ctx context.Context, tx pgx.Tx, from, to Checkpoint) error {
	tag, err := tx.Exec(ctx, advanceSQL, row.s.def.ID, to.Position, to.id(), interval(row.s.cfg.Lease), row.epoch, row.generation,
		from.Position, from.id())
	return exactlyOne(tag, err)
}

func (row liveRow) hold(ctx context.Context, tx pgx.Tx, at Checkpoint) error {
	tag, err := tx.Exec(ctx, holdSQL, row.s.def.ID, interval(row.s.cfg.Lease), row.epoch, row.generation, at.Position, at.id())
	return exactlyOne(tag, err)
}

// clearHalt ends a halt for which there is no cause left.
func (s *stateStore) clearHalt(ctx context.Context, epoch, position int64) error {
	tag, err := s.cfg.Pool.Exec(ctx, clearHaltSQL, s.def.ID, epoch, position)
	return exactlyOne(tag, err)
}

// recordHalt says in the state row where and why the projection has halted.
func (s *stateStore) recordHalt(ctx context.Context, epoch, position int64, cause error) error {
	tag, err := s.cfg.Pool.Exec(ctx, recordHaltSQL, s.def.ID, textOf(cause), position, epoch)
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

// readStatus returns the projection's status as far as its row has it, and enters the row if it is missing. It writes
// nothing otherwise, since the database may be read-only.
func (s *stateStore) readStatus(ctx context.Context) (Status, error) {
	st, err := s.stored(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		if err = s.register(ctx); err == nil {
			st, err = s.stored(ctx)
		}
	}
	if err != nil {
		return Status{}, fmt.Errorf("projector: status of %s: %w", s.def.ID, err)
	}
	return st, nil
}

// setPaused pauses the projection, or lets it go on.
func (s *stateStore) setPaused(ctx context.Context, paused bool) error {
	if err := s.register(ctx); err != nil {
		return err
	}
	sql := resumeSQL
	if paused {
		sql = pauseSQL
	}
	if _, err := s.cfg.Pool.Exec(ctx, sql, s.def.ID); err != nil {
		return fmt.Errorf("projector: control of %s: %w", s.def.ID, err)
	}
	return nil
}
