package query_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/pgtest"
	"passbook/internal/query"
)

// TestMomentsInTheArchive asks about moments before and after the first event that the log has: the latter are positions as ever.
func TestMomentsInTheArchive(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.run(t)
	f.follow(t)
	appendEvent(t, f.pool, id, 1, opening(), nil)
	for version := range int64(4) {
		appendEvent(t, f.pool, id, 2+version, account.MoneyDeposited{Amount: eur(1)}, nil)
	}
	var times []time.Time
	if err := f.pool.QueryRow(t.Context(), `select array_agg(recorded_at order by position) from events`).Scan(&times); err != nil {
		t.Fatal(err)
	}
	wait := query.Wait{Timeout: time.Minute}
	if _, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 5}, wait); err != nil { // waits for the projection
		t.Fatal(err)
	}
	pgtest.Archive(t, f.pool, 4)
	for i, at := range times {
		got, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Time: at}, wait)
		archived, refused := errors.AsType[*query.ArchivedError](err)
		switch {
		case i < 3 && (!refused || archived.First != 4):
			t.Errorf("position %d: %+v, %v", i+1, got, err)
		case i >= 3 && (err != nil || got.Version != int64(i+1)):
			t.Errorf("position %d: %+v, %v", i+1, got, err)
		}
		if got, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: int64(i + 1)}, wait); err != nil || got.Version != int64(i+1) {
			t.Errorf("at position %d: %+v, %v", i+1, got, err)
		}
	}
	if _, _, err := f.svc.Period(t.Context(), id, &times[1], nil, wait); !isArchived(err) {
		t.Errorf("period: %v", err)
	}
	if p, _, err := f.svc.Period(t.Context(), id, nil, nil, wait); err != nil || p.ToPosition != 5 {
		t.Errorf("period: %+v, %v", p, err)
	}
	if _, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{To: &times[0], Limit: 5}, wait); !isArchived(err) {
		t.Errorf("statement: %v", err)
	}
}

func isArchived(err error) bool {
	_, ok := errors.AsType[*query.ArchivedError](err)
	return ok
}
