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

// TestOneWinnerAStreamVersion attacks I3: of all who append the same version of one stream, one wins, also when all know the
// head of the log and nothing else is appended.
func TestOneWinnerAStreamVersion(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	stream := uuid.New()
	const rivals, rounds = 8, 25
	stores := make([]*eventstore.Store, rivals)
	for i := range stores {
		stores[i] = eventstore.New(newPool(t, url))
	}
	const before = 1000 // append_one is not for a short log
	mustAppend(t, stores[0], unit(uuid.New(), 0, before))
	for version := range int64(rounds) {
		var group errgroup.Group
		won := make([]bool, rivals)
		for i, store := range stores {
			group.Go(func() error {
				var past eventstore.Past
				if version > 0 {
					past.Saw(before+version, pgtest.EventID(stream, version))
				}
				results, _, err := store.AppendAfter(t.Context(), &past, []eventstore.Unit{unit(stream, version, 1)})
				won[i] = err == nil && results[0].Outcome == eventstore.Appended
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
			t.Fatalf("version %d has %d winners", version+1, winners)
		}
	}
	checkLog(t, stores[0])
}

// TestAppendLockHeldByAStuckSession sees an append give up after the lock timeout, and the log go on once the holder
// is gone.
func TestAppendLockHeldByAStuckSession(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	store := eventstore.New(newPool(t, url))
	holder, err := newPool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "select pg_advisory_xact_lock(7018230141)"); err != nil {
		t.Fatal(err)
	}
	_, err = store.Append(t.Context(), []eventstore.Unit{unit(uuid.New(), 0, 1)})
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "55P03" || !postgres.IsUnavailable(err) {
		t.Errorf("append under a held lock: %v, want a lock timeout that counts as unavailable", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustAppend(t, store, unit(uuid.New(), 0, 1)); got[0].First != 1 {
		t.Errorf("after the failed append the next position is %d: a failure burned a position", got[0].First)
	}
}

// TestAHostThatFallsSilent has a database that takes statements and says nothing: after the first time limit, none of the
// pool's connections to it is left to be waited for.
func TestAHostThatFallsSilent(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	mustAppend(t, store, unit(uuid.New(), 0, 1))
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
	if _, err := store.Append(short, []eventstore.Unit{unit(uuid.New(), 0, 1)}); !errors.Is(err, context.DeadlineExceeded) {
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
