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
       lease_until > clock_timestamp(), clock_timestamp(), failures, coalesce(previous_generation, 0),
       (select count(*) from projection_failures f where f.projection = p.id and f.generation = p.generation and f.parked)
from projections p where id = $1`

	pauseSQL = `update projections set status = 'paused' where id = $1`

	// If the cause of an earlier failure persists, it is recorded again.
	resumeSQL = `update projections set status = 'running', error_count = 0, last_error = '', error_position = 0
where id = $1 and status = 'paused'`

	uniqueViolation = "23505"

	// "on conflict" alone would wait for a transaction that has locked the row, such as a batch of the owner.
	registerSQL = `insert into projections (id, version, generation)
select $1, $2, 1 where not exists (select from projections where id = $1) on conflict (id) do nothing`

	// Only the database's clock decides when a lease ends. Taking it raises the epoch, even from an owner of the same name, which
	// is this instance before a restart. A lease that ends later than any granted now is void: the clock has been set back since,
	// or was another server's. A binary older than the one that built the rows does not take it.
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

	// The compare-and-set that keeps the rows and the checkpoint together. It holds the row lock until commit, so an owner that
	// was replaced cannot write, and also renews the lease. The event's id is compared because a failover can lose the end of
	// the log and the change of the epoch: position and epoch may then occur twice.
	advanceSQL = `update projections
set position = $2, last_event_id = $3, updated_at = clock_timestamp(), status = 'running',
    error_count = 0, last_error = '', error_position = 0,
    lease_until = clock_timestamp() + $4::interval
where id = $1 and epoch = $5 and generation = $6 and position = $7 and last_event_id is not distinct from $8 and status <> 'paused'`

	// The conditions and the lock of advanceSQL, for writes that leave the checkpoint where it is.
	holdSQL = `update projections set lease_until = clock_timestamp() + $2::interval
where id = $1 and epoch = $3 and generation = $4 and position = $5 and last_event_id is not distinct from $6 and status <> 'paused'`

	// A failure that no event caused is over once the log has been read to its end.
	clearHaltSQL = `update projections
set status = 'running', error_count = 0, last_error = '', error_position = 0, updated_at = clock_timestamp()
where id = $1 and epoch = $2 and position = $3 and status = 'halted'`

	// A failure is recorded in a transaction of its own, since that of the batch was rolled back.
	recordHaltSQL = `update projections
set status = 'halted', failures = failures + 1, error_count = error_count + 1, last_error = $2, error_position = $3, updated_at = clock_timestamp()
where id = $1 and epoch = $4 and status <> 'paused'`
)

// stateStore reads and writes the state of one projection in PostgreSQL: its row in projections (this file), its replays
// (state_replays.go) and its failures (state_failures.go). No other code touches these three tables.
type stateStore struct {
	cfg *Config
	def *Projection

	flipping sync.Mutex // held while a replay flips a Store, and while the live applier applies a batch to it
}

// stored is the part of a status that is in the projection's row.
func (s *stateStore) stored(ctx context.Context) (Status, error) {
	st := Status{ID: s.def.ID}
	var owned bool
	err := s.cfg.Pool.QueryRow(ctx, statusSQL, s.def.ID).Scan(&st.State, &st.Version, &st.Generation, &st.Position, &st.Owner,
		&st.Error, &st.ErrorPosition, &st.UpdatedAt, &owned, &st.now, &st.Failures, &st.PreviousGeneration, &st.Parked)
	if !owned {
		st.Owner = ""
	}
	return st, err
}

// errFenced means that a compare-and-set found the state row changed: the projection was paused, its generation was flipped, or another
// engine owns it. The worker reads the row again, and waits for the lease if it no longer owns the projection.
var errFenced = errors.New("the projection's state has changed under its owner")

// state is the part of the projections row that an owner works on.
type state struct {
	version    int // of the code that built the rows, or a higher one that an operator has rolled back from
	generation int64
	at         Checkpoint
	status     State
	epoch      int64
}

// register inserts the projection's row, if it is missing.
func (s *stateStore) register(ctx context.Context) error {
	if _, err := s.cfg.Pool.Exec(ctx, registerSQL, s.def.ID, s.def.Version); err != nil {
		return fmt.Errorf("projector: register %s: %w", s.def.ID, err)
	}
	return nil
}

// takeLease takes the lease if it is free or has expired. ok is false if another instance owns the projection, or if a newer
// binary has built it.
func (s *stateStore) takeLease(ctx context.Context) (st state, ok bool, err error) {
	return s.lease(ctx, takeSQL, s.def.Version)
}

// renewLease renews the lease and reads the state. ok is false if the lease is lost.
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

// begin runs f in a transaction, which the server ends if the client is idle for as long as a lease: the transaction holds the lock
// on the state row, which the next owner needs.
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

// clearHalt ends a halt whose cause is gone.
func (s *stateStore) clearHalt(ctx context.Context, epoch, position int64) error {
	tag, err := s.cfg.Pool.Exec(ctx, clearHaltSQL, s.def.ID, epoch, position)
	return exactlyOne(tag, err)
}

// recordHalt records in the state row where and why the projection has halted.
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

// interval returns a duration as text for a parameter of type interval.
func interval(d time.Duration) string { return fmt.Sprintf("%d microseconds", d.Microseconds()) }

// maxText is the length of an error that is stored, in bytes.
const maxText = 8 << 10

// textOf returns the text of an error as PostgreSQL can store it.
func textOf(err error) string {
	text := err.Error()
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), maxText)], "\ufffd"), "\x00", "\ufffd")
}

// readStatus returns the part of the projection's status that is in its row. It writes only if the row is missing, which it then
// inserts, since the database may be read-only.
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

// setPaused pauses or resumes the projection.
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
