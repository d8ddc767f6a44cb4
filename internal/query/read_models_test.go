package query_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/postgres"
	"passbook/internal/query"
)

// opened puts an account with one deposit into the read models of statements and totals, at position 12.
func (f *fixture) opened(t *testing.T, id uuid.UUID, currency string) {
	t.Helper()
	f.exec(t, `insert into projections (id, version, generation, position) values ('transactions', 1, 2, 12), ('totals', 1, 2, 12)`)
	f.exec(t, `insert into account_details values (2, $1, 3, 'Ada', $2, 50)`, id, currency)
	f.exec(t, `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference)
values (2, 3, 1, '2026-01-01Z', 0, 0, 0, $1, 'O', 'a', ''), (2, 9, 2, '2026-01-02Z', 70, 70, 0, $1, 'd', 'a', 'r'),
    (1, 9, 2, '2026-01-02Z', 71, 71, 0, $1, 'd', 'a', 'of another generation')`, id)
	f.exec(t, `insert into totals values (2, $1, 1, 70, 170, 5, 3, -102), (1, $1, 9, 9, 9, 9, 9, 9)`, currency)
}

func TestBeforeAnyProjectionHasRun(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tt := range []struct {
		wait query.Wait
		want error
	}{{query.Wait{}, query.ErrNotFound}, {query.Wait{MinPosition: 1}, query.ErrBehind}} {
		if _, applied, err := f.svc.Statement(t.Context(), uuid.New(), query.StatementFilter{Limit: 1}, tt.wait); !errors.Is(err, tt.want) || applied != 0 {
			t.Errorf("statement, %+v: %d, %v", tt.wait, applied, err)
		}
		if _, applied, err := f.svc.BalanceAt(t.Context(), uuid.New(), query.AsOf{Time: time.Unix(1, 0)}, tt.wait); !errors.Is(err, tt.want) || applied != 0 {
			t.Errorf("balance at, %+v: %d, %v", tt.wait, applied, err)
		}
		totals, applied, err := f.svc.Totals(t.Context(), tt.wait)
		if behind := errors.Is(err, query.ErrBehind); behind != (tt.wait.MinPosition > 0) || !behind && err != nil || applied != 0 || len(totals) != 0 {
			t.Errorf("totals, %+v: %+v, %d, %v", tt.wait, totals, applied, err)
		}
	}
}

func TestOneGeneration(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	page, applied, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, query.Wait{MinPosition: 12})
	if err != nil || applied != 12 || page.Next != "" || len(page.Transactions) != 1 || page.Transactions[0].Amount != 70 {
		t.Errorf("statement %+v, %d, %v", page, applied, err)
	}
	b, applied, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 12}, query.Wait{})
	if err != nil || applied != 12 || b.Balance != 70 || b.Version != 2 || b.Position != 9 || b.Overdraft != 50 {
		t.Errorf("balance %+v, %d, %v", b, applied, err)
	}
	totals, applied, err := f.svc.Totals(t.Context(), query.Wait{MinPosition: 12})
	if err != nil || applied != 12 || len(totals) != 1 {
		t.Fatalf("totals %+v, %d, %v", totals, applied, err)
	}
	want := query.Total{Currency: totals[0].Currency, Accounts: 1, Balance: "-1.00", Deposited: "0.70", Withdrawn: "1.70"}
	if totals[0] != want {
		t.Errorf("totals %+v", totals)
	}
	if page, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Kind: "none"}, query.Wait{}); err != nil || len(page.Transactions) != 0 {
		t.Errorf("an unknown kind: %+v, %v", page, err)
	}
	if _, _, err := f.svc.Statement(t.Context(), uuid.New(), query.StatementFilter{}, query.Wait{}); !errors.Is(err, query.ErrNotFound) {
		t.Errorf("an unknown account: %v", err)
	}
	f.exec(t, `update account_details set currency = 'XXX'`)
	f.exec(t, `update totals set currency = 'XXX' where generation = 2`)
	_, _, statement := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, query.Wait{})
	_, _, past := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 12}, query.Wait{})
	if _, _, err := f.svc.Totals(t.Context(), query.Wait{}); err == nil || statement == nil || past == nil {
		t.Errorf("an unknown currency: %v, %v, %v", statement, past, err)
	}
	f.pool.Close()
	_, _, statement = f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, query.Wait{})
	_, _, past = f.svc.BalanceAt(t.Context(), id, query.AsOf{Time: time.Unix(1, 0)}, query.Wait{})
	_, _, err = f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 1}, query.Wait{})
	_, _, totalsErr := f.svc.Totals(t.Context(), query.Wait{})
	for _, err := range []error{statement, past, err, totalsErr} {
		if !postgres.IsUnavailable(err) {
			t.Errorf("without a database: %v", err)
		}
	}
}

// errFuture stands for a *query.FutureError.
var errFuture = errors.New("in the future")

// TestBalanceAtOutsideTheReadModel asks for times and positions that the read model does not have.
func TestBalanceAtOutsideTheReadModel(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	for _, tt := range []struct {
		name string
		id   uuid.UUID
		at   query.AsOf
		wait query.Wait
		want error
	}{
		{"before it was opened", id, query.AsOf{Position: 2}, query.Wait{}, query.ErrNotOpenThen},
		{"before it was opened", id, query.AsOf{Position: 2}, query.Wait{}, query.ErrNotFound},
		{"when the log was empty", id, query.AsOf{Time: time.Unix(0, 0)}, query.Wait{}, query.ErrNotOpenThen},
		{"no account", uuid.New(), query.AsOf{Position: 12}, query.Wait{}, query.ErrNotOpenThen},
		{"a position not applied", id, query.AsOf{Position: 13}, query.Wait{}, query.ErrBehind},
		{"a position not applied, of no account", uuid.New(), query.AsOf{Position: 13}, query.Wait{}, query.ErrBehind},
		{"a past position, with a wait for one to come", id, query.AsOf{Position: 9}, query.Wait{MinPosition: 13}, query.ErrBehind},
		{"the future", id, query.AsOf{Time: time.Now().Add(time.Hour)}, query.Wait{Timeout: time.Hour}, errFuture},
		{"the end of time", id, query.AsOf{Time: time.Date(10000, 1, 1, 23, 58, 59, 999999999, time.UTC)}, query.Wait{}, errFuture},
		{"before our era", id, query.AsOf{Time: time.Date(0, 1, 1, 0, 0, 0, 0, time.FixedZone("", 23*3600))}, query.Wait{}, query.ErrNotOpenThen},
	} {
		if b, _, err := f.svc.BalanceAt(t.Context(), tt.id, tt.at, tt.wait); !errors.Is(err, tt.want) && !(errors.Is(tt.want, errFuture) && isFuture(err, "at")) {
			t.Errorf("%s: %+v, %v", tt.name, b, err)
		}
	}
	if n := f.looks.n.Load(); n != 0 {
		t.Errorf("positions were read %d times", n)
	}
}

func isFuture(err error, parameter string) bool {
	future, ok := errors.AsType[*query.FutureError](err)
	return ok && future.Parameter == parameter
}

// TestReadsWaitForAPosition asks for a balance, a statement and the totals at a position before it is applied.
func TestReadsWaitForAPosition(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	f.run(t)
	const timeout = 50 * time.Millisecond
	if _, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 13}, query.Wait{Timeout: timeout}); !errors.Is(err, query.ErrBehind) {
		t.Errorf("with a short timeout: %v", err)
	}
	ended := make(chan error, 3)
	w := query.Wait{MinPosition: 13, Timeout: time.Hour}
	go func() {
		b, applied, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 13}, query.Wait{Timeout: time.Hour})
		if applied != 13 || b.Balance != 80 {
			t.Errorf("%+v at %d", b, applied)
		}
		ended <- err
	}()
	go func() {
		page, applied, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, w)
		if applied != 13 || len(page.Transactions) != 2 {
			t.Errorf("%+v at %d", page, applied)
		}
		ended <- err
	}()
	go func() {
		_, applied, err := f.svc.Totals(t.Context(), w)
		if applied != 14 {
			t.Errorf("totals at %d", applied)
		}
		ended <- err
	}()
	eventually(t, "all reads wait", func() bool { return f.svc.Waiting() == 3 })
	f.exec(t, `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference)
values (2, 13, 3, '2026-01-03Z', 10, 80, 0, $1, 'd', 'a', '')`, id)
	f.exec(t, `update projections set position = 13 where id = 'transactions'`)
	eventually(t, "the reads of statements are woken", func() bool { return f.svc.Waiting() == 1 })
	f.exec(t, `update projections set position = 14 where id = 'totals'`)
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
