package query_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"passbook/internal/money"
	"passbook/internal/query"
)

// TestStats asks for the statistics at times around a second in which events were recorded.
func TestStats(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	recorded := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	if got, applied, err := f.svc.StatsAt(t.Context(), recorded); err != nil || applied != 0 || !cmp.Equal(got, query.Stats{AsOf: recorded}) {
		t.Errorf("before any projection has run: %+v, %d, %v", got, applied, err)
	}
	f.exec(t, `insert into projections (id, version, generation, position) values ('stats', 1, 2, 12)`)
	if got, applied, err := f.svc.StatsAt(t.Context(), recorded); err != nil || applied != 12 || !cmp.Equal(got, query.Stats{AsOf: recorded}) {
		t.Errorf("without rows: %+v, %d, %v", got, applied, err)
	}
	f.exec(t, `insert into stats_accounts values (1, 99, 99, 99), (2, 7, 2, 1)`)
	f.exec(t, `insert into stats_seconds (generation, slot, currency, second, events, movements, amount)
select g, $1 % 64, c, $1, e, m, a from (values
    (1, 'EUR', 1000, 1000, 1000), (2, '', 3, 0, 0), (2, 'EUR', 4, 4, 18446744073709551620), (2, 'JPY', 1, 1, 7)) as v(g, c, e, m, a)`,
		recorded.Unix())

	jpy, _ := money.LookupCurrency("JPY")
	eur, _ := money.LookupCurrency("EUR")
	moved := []query.Moved{
		{Currency: eur, Amount: "184467440737095516.20", Movements: 4}, {Currency: jpy, Amount: "7", Movements: 1},
	}
	for _, tt := range []struct {
		after                 time.Duration
		last1, last10, last60 float64
		moved                 []query.Moved
	}{
		{0, 0, 0, 0, nil}, // the second is not over
		{time.Second, 8, .8, 8. / 60, moved},
		{2 * time.Second, 0, .8, 8. / 60, moved},
		{10 * time.Second, 0, .8, 8. / 60, moved},
		{11 * time.Second, 0, 0, 8. / 60, moved},
		{60 * time.Second, 0, 0, 8. / 60, moved},
		{61 * time.Second, 0, 0, 0, nil},
	} {
		want := query.Stats{
			AsOf: recorded.Add(tt.after), Last1: tt.last1, Last10: tt.last10, Last60: tt.last60,
			Active: 4, Suspended: 2, Closed: 1, Moved: tt.moved,
		}
		got, applied, err := f.svc.StatsAt(t.Context(), want.AsOf)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b money.Currency) bool { return a == b })); diff != "" || applied != 12 || err != nil {
			t.Errorf("%s later: %d, %v (-want +got):\n%s", tt.after, applied, err, diff)
		}
	}
	before := time.Now()
	if got, _, err := f.svc.Stats(t.Context(), query.Wait{MinPosition: 12}); err != nil || got.AsOf.Before(before.Add(-time.Minute)) {
		t.Errorf("now: %+v, %v", got, err)
	}
	if _, applied, err := f.svc.Stats(t.Context(), query.Wait{MinPosition: 13}); !errors.Is(err, query.ErrBehind) || applied != 12 {
		t.Errorf("for a position not applied: %d, %v", applied, err)
	}
	f.exec(t, `update stats_seconds set currency = 'XXX', second = $1 where currency = 'EUR'`, time.Now().Unix()-5)
	if _, _, err := f.svc.Stats(t.Context(), query.Wait{}); err == nil {
		t.Error("an unknown currency in the read model is not an error")
	}
}
