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

// TestMomentsInTheArchive asks about moments before and after the first event that the log has: the movements have them all.
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
		if err != nil || got.Version != int64(i+1) {
			t.Errorf("position %d: %+v, %v", i+1, got, err)
		}
		if _, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Time: times[0].Add(-time.Microsecond)}, wait); !errors.Is(err, query.ErrNotOpenThen) {
			t.Errorf("before the first event: %v", err)
		}
		if got, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: int64(i + 1)}, wait); err != nil || got.Version != int64(i+1) {
			t.Errorf("at position %d: %+v, %v", i+1, got, err)
		}
	}
	if p, _, err := f.svc.Period(t.Context(), id, &times[1], nil, wait); err != nil || p.FromPosition != 1 || p.Opening != 0 {
		t.Errorf("period: %+v, %v", p, err)
	}
	if p, _, err := f.svc.Period(t.Context(), id, nil, nil, wait); err != nil || p.ToPosition != 5 {
		t.Errorf("period: %+v, %v", p, err)
	}
	if s, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{To: &times[2], Limit: 5}, wait); err != nil || len(s.Transactions) != 1 {
		t.Errorf("statement: %+v, %v", s, err)
	}
}
