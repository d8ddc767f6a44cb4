package query_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/pgtest"
	"passbook/internal/query"
)

// TestReadsOutliveTheirConnections terminates all connections of the pool before each kind of read.
func TestReadsOutliveTheirConnections(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := uuid.New()
	f.opened(t, id, "EUR")
	killer := pgtest.New(t) // on another database, so that it keeps its connections
	database := f.pool.Config().ConnConfig.Database
	for name, read := range map[string]func() error{
		"account": func() error { _, _, err := f.svc.Account(t.Context(), id, query.Wait{}); return err },
		"accounts": func() error {
			_, _, err := f.svc.Accounts(t.Context(), query.ListFilter{Limit: 10}, query.Wait{})
			return err
		},
		"totals": func() error { _, _, err := f.svc.Totals(t.Context(), query.Wait{}); return err },
		"stats":  func() error { _, _, err := f.svc.Stats(t.Context(), query.Wait{}); return err },
		"statement": func() error {
			_, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 10}, query.Wait{})
			return err
		},
		"balance at": func() error {
			_, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 1}, query.Wait{})
			return err
		},
	} {
		if err := read(); err != nil && !errors.Is(err, query.ErrNotFound) && !errors.Is(err, query.ErrBehind) {
			t.Fatalf("%s: %v", name, err)
		}
		const terminate = "select pg_terminate_backend(pid, 30000) from pg_stat_activity where datname = $1"
		if _, err := killer.Exec(t.Context(), terminate, database); err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil && !errors.Is(err, query.ErrNotFound) && !errors.Is(err, query.ErrBehind) {
			t.Errorf("%s, on terminated connections: %v", name, err)
		}
	}
}
