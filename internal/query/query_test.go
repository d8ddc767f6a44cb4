package query_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/query"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 30 * time.Second

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// looks counts the statements that read the positions of the projections.
type looks struct{ n atomic.Int64 }

func (l *looks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "select projection, position from live_generations") {
		l.n.Add(1)
	}
	return ctx
}

func (l *looks) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// fixture is a Service over a database whose read model the test writes itself.
type fixture struct {
	pool  *pgxpool.Pool
	svc   *query.Service
	looks *looks
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{looks: new(looks)}
	var err error
	if f.pool, err = postgres.NewPool(t.Context(), pgtest.URL(t), postgres.WithTracer(f.looks)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.Close)
	f.svc = query.New(f.pool, f.pool)
	return f
}

// run serves waiters until the test ends.
func (f *fixture) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.svc.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func (f *fixture) exec(t interface{ Fatalf(string, ...any) }, sql string, args ...any) {
	if _, err := f.pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

const insertAccount = `insert into balances (generation, account_id, owner, owner_folded, currency, balance, held, overdraft_limit, deposited,
    withdrawn, status, version, position, opened_position, opened_at, updated_at, closed_at)
values ($1, $2, $3, lower($3), $4, $5, 0, 300, $6::text::numeric, 66, $7, 3, 9, $8, '2026-01-02T03:04:05.678901Z', '2026-02-03T00:00:00Z', $9)`

func TestAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := uuid.New()
	if _, applied, err := f.svc.Account(t.Context(), id, query.Wait{}); !errors.Is(err, query.ErrNotFound) || applied != 0 {
		t.Errorf("before any projection has run: %d, %v", applied, err)
	}
	if _, _, err := f.svc.Account(t.Context(), id, query.Wait{MinPosition: 1}); !errors.Is(err, query.ErrBehind) {
		t.Errorf("before any projection has run, for a position: %v", err)
	}
	if page, applied, err := f.svc.Accounts(t.Context(), query.ListFilter{Limit: 10}, query.Wait{}); err != nil || applied != 0 || len(page.Accounts) != 0 {
		t.Errorf("before any projection has run: %+v, %d, %v", page, applied, err)
	}
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 2, 12)`)
	closed := time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC)
	f.exec(t, insertAccount, 1, id, "of another generation", "EUR", 1, "1", "active", 1, nil)
	if _, applied, err := f.svc.Account(t.Context(), id, query.Wait{}); !errors.Is(err, query.ErrNotFound) || applied != 12 {
		t.Errorf("not in the live generation: %d, %v", applied, err)
	}
	f.exec(t, insertAccount, 2, id, "Zoë", "KWD", -3, "98765432109876543210", "closed", 1, closed)
	got, applied, err := f.svc.Account(t.Context(), id, query.Wait{})
	kwd, _ := money.LookupCurrency("KWD")
	want := query.Account{
		ID: id, Owner: "Zoë", Currency: kwd, Balance: -3, Overdraft: 300, Deposited: "98765432109876543.210", Withdrawn: "0.066",
		Status: "closed", Version: 3, Position: 9, OpenedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC),
		UpdatedAt: closed, ClosedAt: closed,
	}
	if err != nil || applied != 12 || !cmp.Equal(got, want, currencies) {
		t.Errorf("got %+v, %d, %v\nwant %+v", got, applied, err, want)
	}
	page, applied, err := f.svc.Accounts(t.Context(), query.ListFilter{Limit: 10}, query.Wait{})
	if err != nil || applied != 12 || page.Next != "" || len(page.Accounts) != 1 || !cmp.Equal(page.Accounts[0], want, currencies) {
		t.Errorf("page %+v, %d, %v", page, applied, err)
	}
	f.exec(t, `update balances set currency = 'XXX'`)
	if _, _, err := f.svc.Account(t.Context(), id, query.Wait{}); err == nil || errors.Is(err, query.ErrNotFound) {
		t.Errorf("an unknown currency in the read model: %v", err)
	}
	f.pool.Close()
	if _, _, err := f.svc.Account(t.Context(), id, query.Wait{}); !postgres.IsUnavailable(err) {
		t.Errorf("without a database: %v", err)
	}
}

// TestNoWait checks that a read neither waits nor reads positions unless the caller asks for one that is not applied yet, and that
// a position that is applied needs neither a watcher nor a timeout.
func TestNoWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t) // without a watcher
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	for _, tt := range []struct {
		wait query.Wait
		want error
	}{
		{query.Wait{}, query.ErrNotFound},
		{query.Wait{Timeout: time.Hour}, query.ErrNotFound},
		{query.Wait{MinPosition: 12}, query.ErrNotFound},
		{query.Wait{MinPosition: 13}, query.ErrBehind},
	} {
		if _, applied, err := f.svc.Account(t.Context(), uuid.New(), tt.wait); !errors.Is(err, tt.want) || applied != 12 {
			t.Errorf("account, %+v: %d, %v", tt.wait, applied, err)
		}
		_, applied, err := f.svc.Accounts(t.Context(), query.ListFilter{Limit: 1}, tt.wait)
		if behind := errors.Is(tt.want, query.ErrBehind); errors.Is(err, query.ErrBehind) != behind || (err != nil) != behind || applied != 12 {
			t.Errorf("accounts, %+v: %d, %v", tt.wait, applied, err)
		}
	}
	if n := f.looks.n.Load(); n != 0 {
		t.Errorf("positions were read %d times", n)
	}
}

func TestWaitEndsByTimeAndByContext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.run(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	began := time.Now()
	const timeout = 100 * time.Millisecond
	_, _, err := f.svc.Account(t.Context(), uuid.New(), query.Wait{MinPosition: 13, Timeout: timeout})
	if !errors.Is(err, query.ErrBehind) || time.Since(began) < timeout {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	_, _, err = f.svc.Accounts(t.Context(), query.ListFilter{Limit: 1}, query.Wait{MinPosition: 13, Timeout: timeout})
	if !errors.Is(err, query.ErrBehind) {
		t.Errorf("accounts: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, _, err := f.svc.Account(ctx, uuid.New(), query.Wait{MinPosition: 13, Timeout: time.Hour})
		ended <- err
	}()
	eventually(t, "the call waits", func() bool { return f.svc.Waiting() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if n := f.svc.Waiting(); n != 0 {
		t.Errorf("%d calls are still waiting", n)
	}
}

// TestAppliedWakes checks that Applied alone wakes a waiter: the watcher by itself would read the positions an hour later.
func TestAppliedWakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.svc.PollEvery(time.Hour)
	f.run(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	f.svc.Applied() // without a waiter, the watcher reads nothing
	ended := make(chan error, 1)
	go func() {
		_, applied, err := f.svc.Account(t.Context(), uuid.New(), query.Wait{MinPosition: 14, Timeout: time.Hour})
		if applied != 14 {
			t.Errorf("returned at %d", applied)
		}
		ended <- err
	}()
	for position := 12; position <= 14; position++ {
		looked := f.looks.n.Load()
		f.exec(t, `update projections set position = $1`, position)
		f.svc.Applied()
		if position < 14 {
			eventually(t, "the watcher reads the position, and the call still waits", func() bool { return f.looks.n.Load() > looked && f.svc.Waiting() == 1 })
		}
	}
	if err := <-ended; !errors.Is(err, query.ErrNotFound) {
		t.Errorf("woken: %v", err)
	}
	looked := f.looks.n.Load()
	if _, _, err := f.svc.Account(t.Context(), uuid.New(), query.Wait{MinPosition: 13, Timeout: time.Hour}); !errors.Is(err, query.ErrNotFound) {
		t.Errorf("a known position: %v", err)
	}
	if f.looks.n.Load() != looked {
		t.Error("a known position was read again")
	}
}

// TestOneWatcherForAll checks that each of many waiters is woken at its own position, which a projector in another process reaches.
func TestOneWatcherForAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.run(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	const waiters = 300
	var all sync.WaitGroup
	for i := range waiters {
		all.Go(func() {
			_, applied, err := f.svc.Account(t.Context(), uuid.New(), query.Wait{MinPosition: 13 + int64(i%3), Timeout: time.Hour})
			if !errors.Is(err, query.ErrNotFound) || applied < 13+int64(i%3) {
				t.Errorf("woken at %d: %v", applied, err)
			}
		})
	}
	eventually(t, "all calls wait", func() bool { return f.svc.Waiting() == waiters })
	for position := 13; position <= 15; position++ {
		f.exec(t, `update projections set position = $1`, position) // by a projector in another process
		eventually(t, "a third of them is woken", func() bool { return f.svc.Waiting() == waiters*(15-position)/3 })
	}
	all.Wait()
}

// TestWaitOutlivesTheDatabase checks that a call goes on waiting while the watcher fails to read positions.
func TestWaitOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.run(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	f.exec(t, `alter view live_generations rename to misplaced`)
	ended := make(chan error, 1)
	go func() {
		_, _, err := f.svc.Account(t.Context(), uuid.New(), query.Wait{MinPosition: 13, Timeout: time.Hour})
		ended <- err
	}()
	eventually(t, "the watcher fails to read", func() bool { return f.looks.n.Load() > 2 })
	f.exec(t, `update misplaced set position = 13`)
	f.exec(t, `alter view misplaced rename to live_generations`)
	if err := <-ended; !errors.Is(err, query.ErrNotFound) {
		t.Errorf("woken: %v", err)
	}
}

// TestHeldAndMetadata reads the held sum and the metadata of an account, of now and of the past.
func TestHeldAndMetadata(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 2, 12)`)
	f.exec(t, insertAccount, 2, id, "Zoë", "EUR", 70, "1", "active", 1, nil)
	f.exec(t, `update balances set held = 7, metadata = '{"b": "2", "a": ""}'`)
	labels := map[string]string{"a": "", "b": "2"}
	a, _, err := f.svc.Account(t.Context(), id, query.Wait{})
	if err != nil || a.Held != 7 || !maps.Equal(a.Metadata, labels) {
		t.Errorf("account: %+v, %v", a, err)
	}
	f.exec(t, `insert into account_details values (2, $1, 11, 'Eda', 'EUR', 60, '{"b": "2", "a": ""}')`, id)
	f.exec(t, `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference)
values (2, 10, 3, '2026-01-02Z', 5, 70, 5, $1, 'h', 'a', ''), (2, 11, 4, '2026-01-02Z', 0, 70, 5, $1, 'M', 'a', '')`, id)
	for _, tt := range []struct {
		position, held, overdraft int64
		owner                     string
		metadata                  map[string]string
	}{{9, 0, 50, "Ada", nil}, {10, 5, 50, "Ada", nil}, {11, 5, 60, "Eda", labels}} {
		b, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: tt.position}, query.Wait{})
		if err != nil || b.Held != tt.held || b.Overdraft != tt.overdraft || b.Owner != tt.owner || !maps.Equal(b.Metadata, tt.metadata) {
			t.Errorf("at %d: %+v, %v", tt.position, b, err)
		}
	}
}
