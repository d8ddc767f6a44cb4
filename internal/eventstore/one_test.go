package eventstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// TestAppendOne appends one event at a time, and takes away the functions that are not to be called for it.
func TestAppendOne(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	store, other := eventstore.New(pool), eventstore.New(newPool(t, url))
	stream := uuid.New()
	var past eventstore.Past
	version := int64(0)
	// next appends the next event of the stream, with a key if k is not 0, and says what became of it.
	next := func(k byte) eventstore.UnitResult {
		t.Helper()
		u := unit(stream, version, 1)
		if k != 0 {
			u.Keys = []eventstore.Key{{Hash: key(k), Fingerprint: key(k + 100), First: 0, Count: 1}}
		}
		results, lost, err := store.AppendAfter(t.Context(), &past, []eventstore.Unit{u})
		if err != nil || lost || len(results) != 1 || past.Marks() == 0 {
			t.Errorf("%+v, lost %v, %v, %d marks", results, lost, err, past.Marks())
			return eventstore.UnitResult{}
		}
		if results[0].Outcome == eventstore.Appended {
			version++
		}
		return results[0]
	}
	// There is a log of some length before.
	const long = 1000
	mustAppend(t, store, unit(uuid.New(), 0, long))
	want := func(r eventstore.UnitResult, first int64) {
		t.Helper()
		first += long
		if r.Outcome != eventstore.Appended || r.First != first || time.Since(r.RecordedAt).Abs() > time.Hour {
			t.Errorf("%+v, want position %d", r, first)
		}
	}
	want(next(0), 1) // nothing is known of the log yet
	want(next(0), 2)

	restore := without(t, pool, "append_batch", "append_events")
	want(next(0), 3)
	want(next(1), 4)
	want(next(0), 5)
	restore()
	stored, err := store.LookupKeys(t.Context(), [][16]byte{key(1)})
	if err != nil || len(stored) != 1 || stored[0] != (eventstore.StoredKey{Hash: key(1), Fingerprint: key(101), First: long + 4, Count: 1}) {
		t.Errorf("the key is stored as %+v, %v", stored, err)
	}

	// Another instance has written: it is likely to do so again.
	mustAppend(t, other, unit(uuid.New(), 0, 1))
	want(next(0), 7)
	restore = without(t, pool, "append_one")
	want(next(2), 8)
	restore()
	restore = without(t, pool, "append_batch", "append_events")
	want(next(0), 9)
	restore()

	for range 2 { // nothing is appended, and the log is as it was
		if got := next(1); got.Outcome != eventstore.Duplicate {
			t.Errorf("a key that is taken: %+v", got)
		}
	}
	want(next(3), 10)
	want(next(0), 11)

	release := pgtest.HoldAppendLock(t, pool)
	var waits sync.WaitGroup
	waits.Go(func() { want(next(4), 12) })
	eventually(t, func() (waiting bool, err error) {
		err = pool.QueryRow(t.Context(), pgtest.AppendWaits).Scan(&waiting)
		return waiting, err
	})
	release()
	waits.Wait()

	// The end of the log is lost, and the same version of the stream was written anew by somebody else.
	if _, err := pool.Exec(t.Context(), "update events set event_id = gen_random_uuid() where position = $1", long+12); err != nil {
		t.Fatal(err)
	}
	results, lost, err := store.AppendAfter(t.Context(), &past, []eventstore.Unit{unit(stream, version, 1)})
	if err != nil || !lost || results[0].Outcome != eventstore.Conflict {
		t.Errorf("after a loss: %+v, lost %v, %v", results, lost, err)
	}
	checkLog(t, store)
}

// without takes functions away, until restore.
func without(t *testing.T, pool *pgxpool.Pool, functions ...string) (restore func()) {
	t.Helper()
	rename := func(from, to string) {
		t.Helper()
		for _, f := range functions {
			if _, err := pool.Exec(t.Context(), "alter function "+from+f+" rename to "+to+f); err != nil {
				t.Fatal(err)
			}
		}
	}
	rename("", "no_")
	return func() { t.Helper(); rename("no_", "") }
}

// TestAppendOneGoesByTheIndexes has a plan made while PostgreSQL thinks that the log holds one event.
func TestAppendOneGoesByTheIndexes(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	admin := newPool(t, url)
	mustAppend(t, eventstore.New(admin), unit(uuid.New(), 0, 1))
	if _, err := admin.Exec(t.Context(), "vacuum analyze events"); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithGenericPlans(), postgres.WithMaxConns(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	store := eventstore.New(pool)
	mustAppend(t, store, unit(uuid.New(), 0, 998))
	stream := uuid.New()
	var past eventstore.Past
	for version := range int64(52) {
		u := unit(stream, version, 1)
		if version%2 == 0 {
			u.Keys = []eventstore.Key{{Hash: key(byte(version)), First: 0, Count: 1}}
		}
		if _, _, err := store.AppendAfter(t.Context(), &past, []eventstore.Unit{u}); err != nil {
			t.Fatal(err)
		}
	}
	pool.Close() // a session says at its end what it has counted
	var whole, byIndex int
	eventually(t, func() (bool, error) {
		err := admin.QueryRow(t.Context(), "select seq_scan, idx_scan from pg_stat_user_tables where relname = 'events'").Scan(&whole, &byIndex)
		return whole > 0 || byIndex >= 50, err
	})
	if whole > 0 {
		t.Errorf("the log was read whole %d times", whole)
	}
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() (bool, error)) {
	t.Helper()
	end := time.After(time.Minute)
	for range time.Tick(5 * time.Millisecond) {
		if ok, err := holds(); err != nil {
			t.Fatal(err)
		} else if ok {
			return
		}
		select {
		case <-end:
			t.Fatal("waited for a minute")
		default:
		}
	}
}
