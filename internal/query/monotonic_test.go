package query_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/query"
)

// reads are the queries, each of which returns the position that it found applied.
func (f *fixture) reads(t *testing.T, id uuid.UUID) map[string]func(query.Wait) (int64, error) {
	t.Helper()
	return map[string]func(query.Wait) (int64, error){
		"account": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.Account(t.Context(), id, w)
			return applied, err
		},
		"accounts": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.Accounts(t.Context(), query.ListFilter{Limit: 5}, w)
			return applied, err
		},
		"statement": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, w)
			return applied, err
		},
		"balance at": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 1}, w)
			return applied, err
		},
		"totals": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.Totals(t.Context(), w)
			return applied, err
		},
		"stats": func(w query.Wait) (int64, error) {
			_, applied, err := f.svc.Stats(t.Context(), w)
			return applied, err
		},
	}
}

// allRead returns a fixture whose log has 12 events, all applied, and which every kind of read has returned.
func allRead(t *testing.T) (*fixture, uuid.UUID) {
	t.Helper()
	f, id := newFixture(t), uuid.New()
	f.run(t)
	for version := int64(1); version <= 12; version++ {
		appendEvent(t, f.pool, id, version, account.MoneyDeposited{Amount: eur(1)}, nil)
	}
	f.exec(t, `insert into projections (id, version, generation, position)
values ('balances', 1, 1, 12), ('transactions', 1, 1, 12), ('totals', 1, 1, 12), ('stats', 1, 1, 12)`)
	for name, read := range f.reads(t, id) {
		if applied, err := read(query.Wait{}); applied != 12 || err != nil && !errors.Is(err, query.ErrNotFound) {
			t.Fatalf("%s: %d, %v", name, applied, err)
		}
	}
	return f, id
}

// TestReadsDoNotGoBack makes projections lose their last commits, as after a crash of the database.
func TestReadsDoNotGoBack(t *testing.T) {
	t.Parallel()
	f, id := allRead(t)
	f.exec(t, `update projections set position = 10`)
	ended := make(chan string)
	for name, read := range f.reads(t, id) {
		if applied, err := read(query.Wait{}); !errors.Is(err, query.ErrBehind) || applied != 10 {
			t.Errorf("%s, after a result at 12: %d, %v", name, applied, err)
		}
		go func() {
			if applied, err := read(query.Wait{Timeout: patience}); applied != 12 || err != nil && !errors.Is(err, query.ErrNotFound) {
				t.Errorf("%s, with time to wait: %d, %v", name, applied, err)
			}
			ended <- name
		}()
	}
	eventually(t, "all reads wait", func() bool { return f.svc.Waiting() == 6 })
	f.exec(t, `update projections set position = 12`)
	for range 6 {
		<-ended
	}
}

// TestReadsFollowALogThatWentBack makes the log lose its end, and the projections with it.
func TestReadsFollowALogThatWentBack(t *testing.T) {
	t.Parallel()
	f, id := allRead(t)
	f.exec(t, `delete from events where position > 10`)
	f.exec(t, `update projections set position = 10`)
	for name, read := range f.reads(t, id) {
		if applied, err := read(query.Wait{}); applied != 10 || err != nil && !errors.Is(err, query.ErrNotFound) {
			t.Errorf("%s: %d, %v", name, applied, err)
		}
	}
	// Reads wait for a position that they returned once as for any other.
	const timeout = 100 * time.Millisecond
	for name, read := range f.reads(t, id) {
		began := time.Now()
		if _, err := read(query.Wait{MinPosition: 11, Timeout: timeout}); !errors.Is(err, query.ErrBehind) || time.Since(began) < timeout {
			t.Errorf("%s, for 11: %v after %v", name, err, time.Since(began))
		}
	}
	ended := make(chan string)
	for name, read := range f.reads(t, id) {
		go func() {
			if applied, err := read(query.Wait{MinPosition: 11, Timeout: patience}); applied != 11 || err != nil && !errors.Is(err, query.ErrNotFound) {
				t.Errorf("%s, once 11 is applied: %d, %v", name, applied, err)
			}
			ended <- name
		}()
	}
	eventually(t, "all reads wait", func() bool { return f.svc.Waiting() == 6 })
	f.exec(t, `update projections set position = 11`)
	for range 6 {
		<-ended
	}
}
