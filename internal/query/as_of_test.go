package query_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/query"
)

// appendSQL appends one event as the log does: with a time taken under the lock and before the commit.
const appendSQL = `insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select coalesce(max(position), 0) + 1, $1, $2, gen_random_uuid(), $3, $4, $5, '{}', coalesce($6, greatest(max(recorded_at), clock_timestamp()))
from events`

// appendEvent appends an event of an account; beforeCommit, if not nil, is called while the append is in progress.
func appendEvent(t *testing.T, pool *pgxpool.Pool, id uuid.UUID, version int64, event account.Event, beforeCommit func()) {
	t.Helper()
	appendEventAt(t, pool, nil, id, version, event, beforeCommit)
}

// appendEventAt is appendEvent with the time that another database took.
func appendEventAt(t *testing.T, pool *pgxpool.Pool, at *time.Time, id uuid.UUID, version int64, event account.Event, beforeCommit func()) {
	t.Helper()
	e, err := eventjson.Encode(event)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(context.Background(), `select pg_advisory_xact_lock(7018230141)`); err != nil {
			return err
		}
		if _, err := tx.Exec(context.Background(), appendSQL, id, version, e.Type, e.SchemaVersion, e.Payload, at); err != nil {
			return err
		}
		if beforeCommit != nil {
			beforeCommit()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func eur(minor int64) money.Amount {
	c, _ := money.LookupCurrency("EUR")
	return money.New(minor, c)
}

func opening() account.Event {
	return account.AccountCreated{Owner: "Ada", Currency: eur(1).Currency()}
}

// result is what was returned as of a time, and how to ask for it again.
type result struct {
	page    query.Statement
	balance query.BalanceAt
	err     error
	again   func() result
}

// ask asks about an account as of a time, in one of three ways.
func (f *fixture) ask(id uuid.UUID, at time.Time, how int, w query.Wait) (a result) {
	switch how {
	case 0:
		a.balance, _, a.err = f.svc.BalanceAt(context.Background(), id, query.AsOf{Time: at}, w)
	case 1:
		a.page, _, a.err = f.svc.Statement(context.Background(), id, query.StatementFilter{To: &at, Limit: 5}, w)
	default:
		from := at.Add(-10 * time.Millisecond)
		a.page, _, a.err = f.svc.Statement(context.Background(), id, query.StatementFilter{From: &from, To: &at, Limit: 500}, w)
	}
	a.again = func() result { return f.ask(id, at, how, w) }
	return a
}

// same reports whether two results are the same.
func (a *result) same(b *result) bool {
	return reflect.DeepEqual(a.page, b.page) && reflect.DeepEqual(a.balance, b.balance) && errors.Is(b.err, a.err)
}

// TestResultsAsOfATimeNeverChange attacks I11: while several goroutines append, it asks about times that have just passed, and asks
// again once all is applied.
func TestResultsAsOfATimeNeverChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.run(t)
	f.follow(t)
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var appending, asking sync.WaitGroup
	for _, id := range ids {
		appending.Go(func() {
			appendEvent(t, f.pool, id, 1, opening(), nil)
			for version := int64(2); ctx.Err() == nil; version++ {
				appendEvent(t, f.pool, id, version, account.MoneyDeposited{Amount: eur(1)}, nil)
			}
		})
	}
	var (
		mu    sync.Mutex
		all   []result
		asked = time.Now()
	)
	for how := range 6 {
		asking.Go(func() {
			for n := 0; n < 5 || time.Since(asked) < 2*time.Second; n++ {
				a := f.ask(ids[how%3], time.Now(), how%3, query.Wait{Timeout: 10 * time.Second})
				mu.Lock()
				all = append(all, a)
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	cancel()
	appending.Wait()
	changed, results := 0, 0
	for i := range all {
		if errors.Is(all[i].err, query.ErrBehind) {
			continue
		}
		results++
		if b := all[i].again(); !all[i].same(&b) {
			changed++
		}
	}
	if changed > 0 || results < 10 {
		t.Errorf("%d of %d results changed", changed, results)
	}
}

// TestTimeWaitsForAppendsInProgress asks about a time while an event from before it is not committed yet.
func TestTimeWaitsForAppendsInProgress(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.run(t)
	f.follow(t)
	appendEvent(t, f.pool, id, 1, opening(), nil)
	var (
		asked sync.WaitGroup
		got   [2]result
		at    time.Time
	)
	appendEvent(t, f.pool, id, 2, account.MoneyDeposited{Amount: eur(7)}, func() {
		if err := f.pool.QueryRow(t.Context(), `select clock_timestamp()`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		for how := range got {
			if a := f.ask(id, at, how, query.Wait{Timeout: 20 * time.Millisecond}); !errors.Is(a.err, query.ErrBehind) {
				t.Errorf("with a short timeout, %d: %+v", how, a)
			}
			asked.Go(func() { got[how] = f.ask(id, at, how, query.Wait{Timeout: patience}) })
		}
		for range got {
			eventually(t, "a query waits for the append", func() (waits bool) {
				return f.pool.QueryRow(t.Context(), pgtest.AppendWaits).Scan(&waits) == nil && waits
			})
		}
	})
	asked.Wait()
	if got[0].err != nil || got[0].balance.Balance != 7 {
		t.Errorf("%+v", got[0])
	}
	if got[1].err != nil || len(got[1].page.Transactions) != 1 {
		t.Errorf("%+v", got[1])
	}
}

// TestRecentTimeOnAReplica reads from another database than the primary: only the primary knows about recent times.
func TestRecentTimeOnAReplica(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	primary := pgtest.New(t)
	for _, pool := range []*pgxpool.Pool{f.pool, primary} { // the replica has received this much
		appendEvent(t, pool, id, 1, opening(), nil)
	}
	f.follow(t)
	f.svc = query.New(f.pool, primary)
	f.run(t)
	then := time.Now()
	appendEventAt(t, primary, &then, id, 2, account.MoneyDeposited{Amount: eur(7)}, nil)
	at := time.Now()
	if a := f.ask(id, at, 0, query.Wait{}); !errors.Is(a.err, query.ErrBehind) {
		t.Errorf("before the replica has caught up: %+v", a)
	}
	appendEventAt(t, f.pool, &then, id, 2, account.MoneyDeposited{Amount: eur(7)}, nil)
	if a := f.ask(id, at, 0, query.Wait{Timeout: patience}); a.err != nil || a.balance.Balance != 7 {
		t.Errorf("once the replica has caught up: %+v", a)
	}
	// Times before the replica's last event need no primary.
	appendEvent(t, f.pool, id, 3, account.MoneyDeposited{Amount: eur(7)}, nil)
	primary.Close()
	if a := f.ask(id, at, 0, query.Wait{Timeout: patience}); a.err != nil || a.balance.Balance != 7 {
		t.Errorf("a time that is final, without a primary: %+v", a)
	}
}

// TestTimesInTheFuture asks for the future by each parameter that takes a time.
// TestRecentTimeOnAFollower has an event arrive whose time is before one that was asked about.
func TestRecentTimeOnAFollower(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.follow(t)
	f.svc = query.New(f.pool, f.pool)
	f.svc.ReadFollower()
	f.run(t)
	appendEvent(t, f.pool, id, 1, opening(), nil)
	then := time.Now()
	at := time.Now()
	if a := f.ask(id, at, 0, query.Wait{Timeout: patience}); !errors.Is(a.err, query.ErrBehind) {
		t.Errorf("after the last event: %+v", a)
	}
	appendEventAt(t, f.pool, &then, id, 2, account.MoneyDeposited{Amount: eur(7)}, nil)
	if a := f.ask(id, at, 0, query.Wait{Timeout: patience}); !errors.Is(a.err, query.ErrBehind) {
		t.Errorf("after an event of before: %+v", a)
	}
	later := at.Add(time.Millisecond)
	appendEventAt(t, f.pool, &later, id, 3, account.MoneyDeposited{Amount: eur(7)}, nil)
	if a := f.ask(id, at, 0, query.Wait{Timeout: patience}); a.err != nil || a.balance.Balance != 7 {
		t.Errorf("after a later event: %+v", a)
	}
	p, _, err := f.svc.Period(t.Context(), id, nil, nil, query.Wait{Timeout: patience})
	if err != nil || p.ToPosition != 2 || p.Closing != 7 {
		t.Errorf("a period up to now: %+v, %v", p, err)
	}
}

func TestTimesInTheFuture(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for name, filter := range map[string]query.StatementFilter{
		"to": {From: &past, To: &future, Limit: 5}, "from": {From: &future, Limit: 5},
	} {
		if _, _, err := f.svc.Statement(t.Context(), id, filter, query.Wait{}); !isFuture(err, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNotOpenThen asks about an account as of a time before it was opened, both before and after it is opened.
func TestNotOpenThen(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.run(t)
	f.follow(t)
	appendEvent(t, f.pool, uuid.New(), 1, opening(), nil)
	at := time.Now()
	check := func(when string) {
		t.Helper()
		for how := range 3 {
			if a := f.ask(id, at, how, query.Wait{Timeout: patience}); !errors.Is(a.err, query.ErrNotOpenThen) {
				t.Errorf("%s it was opened, %d: %+v", when, how, a)
			}
		}
	}
	check("before")
	appendEvent(t, f.pool, id, 1, opening(), nil)
	if _, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, query.Wait{MinPosition: 2, Timeout: patience}); err != nil {
		t.Error(err)
	}
	check("after")
}

// TestParkedAccountHasNoPast reads an account as of positions at which its events are still to be applied, since it is parked.
func TestParkedAccountHasNoPast(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.opened(t, id, "EUR")
	f.exec(t, `insert into projection_failures (projection, generation, stream_id, position, event_id, type, error, attempts, parked)
values ('transactions', 2, $1, 10, gen_random_uuid(), 'MoneyDeposited', 'it fails', 4, true)`, id)
	if _, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 9}, query.Wait{}); err != nil {
		t.Errorf("before the failure: %v", err)
	}
	if b, _, err := f.svc.BalanceAt(t.Context(), id, query.AsOf{Position: 10}, query.Wait{}); !errors.Is(err, query.ErrBehind) {
		t.Errorf("from the failure on: %+v, %v", b, err)
	}
	if page, _, err := f.svc.Statement(t.Context(), id, query.StatementFilter{Limit: 5}, query.Wait{}); err != nil || len(page.Transactions) != 1 {
		t.Errorf("as of now: %+v, %v", page, err)
	}
}
