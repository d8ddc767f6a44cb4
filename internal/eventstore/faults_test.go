package eventstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func newPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestOneWinnerOnAHead attacks I3: of all appends on one head, with and without the lock, one succeeds.
func TestOneWinnerOnAHead(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const rivals, rounds = 8, 25
	stores := make([]*eventstore.Store, rivals)
	for i := range stores {
		stores[i] = eventstore.New(newPool(t, url))
	}
	for round := range rounds {
		head, err := stores[0].Last(t.Context())
		if err != nil || head.Position != int64(round) {
			t.Fatalf("the head is %+v, %v", head, err)
		}
		var group errgroup.Group
		won := make([]bool, rivals)
		for i, store := range stores {
			group.Go(func() error {
				result, err := appendEither(t, store, i%4 == 0, head, batch(happened(uuid.New(), 0, 1)))
				won[i] = err == nil && !result.Moved
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		if winners != 1 {
			t.Fatalf("round %d has %d winners", round, winners)
		}
	}
	checkLog(t, stores[0])
}

// TestAppendLockHeldByStuckSession expects appends to fail after the lock timeout, and to succeed once the holder is gone.
func TestAppendLockHeldByStuckSession(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithLockTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store := eventstore.New(pool)
	holder, err := newPool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "select pg_advisory_xact_lock(7018230141)"); err != nil {
		t.Fatal(err)
	}
	_, appendErr := store.Append(t.Context(), eventstore.Head{}, batch(happened(uuid.New(), 0, 1)))
	_, _, lockErr := store.Lock(t.Context(), 0, 0)
	for _, err := range []error{appendErr, lockErr} {
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "55P03" || !postgres.IsUnavailable(err) {
			t.Errorf("with the lock held: %v, want a lock timeout that counts as unavailable", err)
		}
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first := mustAppend(t, store, happened(uuid.New(), 0, 1)); first != 1 {
		t.Errorf("after the failed append the next position is %d: it left a gap", first)
	}
}

// TestIdleLockHolderIsEnded expects the database to end a session that holds the lock and is idle.
func TestIdleLockHolderIsEnded(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	silent, other := eventstore.New(newPool(t, url)), eventstore.New(newPool(t, url))
	locked, _, err := silent.Lock(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Release()
	if first := mustAppend(t, other, happened(uuid.New(), 0, 1)); first != 1 {
		t.Errorf("the other's event is at %d", first)
	}
	if _, err := locked.Append(t.Context(), eventstore.Head{}, batch(happened(uuid.New(), 0, 1))); !postgres.IsUnavailable(err) {
		t.Errorf("the idle session's append: %v", err)
	}
	checkLog(t, other)
}

// TestSilentHostReplacesConnections has a database that accepts statements and never answers: after the first timeout the pool
// must have closed all its connections.
func TestSilentHostReplacesConnections(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	mustAppend(t, store, happened(uuid.New(), 0, 1))
	pids := func() (all []uint32) {
		t.Helper()
		var held []*pgxpool.Conn
		for range 3 {
			c, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, c)
			all = append(all, c.Conn().PgConn().PID())
		}
		for _, c := range held {
			c.Release()
		}
		return all
	}
	before := pids()
	holder, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), "select pg_advisory_lock(7018230141)"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := store.Append(short, eventstore.Head{}, batch(happened(uuid.New(), 0, 1))); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("an append behind a held lock: %v", err)
	}
	if _, err := holder.Exec(t.Context(), "select pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids() {
		if slices.Contains(before, pid) {
			t.Errorf("the connection of backend %d was kept", pid)
		}
	}
}
