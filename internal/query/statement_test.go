package query_test

import (
	"context"
	"errors"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

// follow applies the log to all read models until the test ends.
func (f *fixture) follow(t *testing.T) {
	t.Helper()
	engine := f.engine(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = engine.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// project applies the whole log to all read models, in batches of at most a size.
func (f *fixture) project(t interface{ Fatalf(string, ...any) }, batch int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	engine := f.engine(t, batch)
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { _ = engine.Run(running); close(ended) }()
	defer func() { stop(); <-ended }()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		all, err := engine.Projections(ctx)
		if err != nil {
			t.Fatalf("status: %v", err)
		}
		if !slices.ContainsFunc(all, func(s projector.Status) bool { return s.Lag > 0 || s.Generation == 0 }) {
			return
		}
		<-ticker.C
	}
}

func (f *fixture) engine(t interface{ Fatalf(string, ...any) }, batch int) *projector.Engine {
	projections := []*projector.Projection{readmodel.Balances(), readmodel.Transactions(), readmodel.Totals(), readmodel.Holds()}
	for _, p := range projections {
		p.BatchDelay = time.Millisecond
	}
	engine, err := projector.New(projector.Config{
		Pool: f.pool, Log: eventstore.New(f.pool), Instance: "test", Batch: batch, Poll: 10 * time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, projections...)
	if err != nil {
		t.Fatalf("engine: %v", err)
	}
	return engine
}

// currencies lets currencies be compared.
var currencies = cmp.AllowUnexported(money.Currency{})

// TestStatementsAreTheFold reads the statements of random histories page by page, searches them, and sums them up by period.
func TestStatementsAreTheFold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		log := f.drawHistory(t)
		for range 4 {
			f.checkStatement(t, log, rapid.SampledFrom(accountIDs).Draw(t, "whose"), anyFilter(t, log))
		}
		for range 2 {
			f.checkPeriod(t, log, rapid.SampledFrom(accountIDs).Draw(t, "whose"), anyFilter(t, log))
			f.checkSearch(t, log, anySearch(t, log))
		}
	})
}

func (f *fixture) checkStatement(t *rapid.T, log []recorded, id uuid.UUID, filter query.StatementFilter) {
	n := before(log, filter.To)
	want := slices.DeleteFunc(movements(log, n), func(m query.Transaction) bool {
		return m.AccountID != id || filter.Kind != "" && m.Kind != filter.Kind || filter.From != nil && m.RecordedAt.Before(*filter.From)
	})
	if filter.Sort != "recorded_at" {
		slices.Reverse(want)
	}
	_, known := last(log, n, id)
	got := f.pages(t, id, filter, known, int64(len(log)))
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got, currencies); diff != "" {
		t.Fatalf("account %s, filter %+v (-want +got):\n%s", id, filter, diff)
	}
}

func anyFilter(t *rapid.T, log []recorded) query.StatementFilter {
	bound := func(name string) *time.Time {
		if rapid.Bool().Draw(t, name) {
			return nil
		}
		at := rapid.SampledFrom(log).Draw(t, name).at.Add(rapid.SampledFrom([]time.Duration{0, 1, -1, 1000, -1000}).Draw(t, name))
		return &at
	}
	return query.StatementFilter{
		From: bound("from"), To: bound("to"), Limit: rapid.IntRange(1, 5).Draw(t, "limit"),
		Kind: rapid.SampledFrom([]string{"", "", "deposit", "withdrawal", "transfer_in", "transfer_out", "reversal_in", "reversal_out"}).Draw(t, "kind"),
		Sort: rapid.SampledFrom([]string{"", "-recorded_at", "recorded_at"}).Draw(t, "sort"),
	}
}

// pages reads all pages of a statement, and tampers with their cursors.
func (f *fixture) pages(t *rapid.T, id uuid.UUID, filter query.StatementFilter, known bool, head int64) (all []query.Transaction) {
	for {
		page, applied, err := f.svc.Statement(t.Context(), id, filter, query.Wait{MinPosition: head})
		if !known {
			if !errors.Is(err, query.ErrNotFound) || applied != head {
				t.Fatalf("an account that was not open: %d, %v", applied, err)
			}
			return nil
		}
		if err != nil || applied != head || page.AccountID != id || len(page.Transactions) > filter.Limit {
			t.Fatalf("%+v, %d, %v", page, applied, err)
		}
		all = append(all, page.Transactions...)
		if page.Next == "" {
			return all
		}
		if len(page.Transactions) != filter.Limit {
			t.Fatalf("a page is short but not the last: %+v", page)
		}
		f.tamperStatement(t, id, filter, page.Next)
		filter.Cursor = page.Next
	}
}

// tamperStatement changes a cursor, or uses it for another list. A changed one may be a cursor that the service could have made; any
// other must be rejected with ErrBadCursor.
func (f *fixture) tamperStatement(t *rapid.T, id uuid.UUID, filter query.StatementFilter, cursor string) {
	raw := []byte(cursor)
	raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
	filter.Cursor = string(raw)
	if _, _, err := f.svc.Statement(t.Context(), id, filter, query.Wait{}); err != nil && !errors.Is(err, query.ErrBadCursor) {
		t.Fatalf("cursor %q: %v", filter.Cursor, err)
	}
	for _, bad := range []string{cursor + "A", cursor[:len(cursor)-2], cursor + "\n", "!", "cDE"} {
		filter.Cursor = bad
		if _, _, err := f.svc.Statement(t.Context(), id, filter, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
			t.Fatalf("cursor %q: %v", bad, err)
		}
	}
	filter.Cursor = cursor
	for _, other := range accountIDs {
		if _, _, err := f.svc.Statement(t.Context(), other, filter, query.Wait{}); other != id && !errors.Is(err, query.ErrBadCursor) {
			t.Fatalf("cursor of another account: %v", err)
		}
	}
	if filter.Sort == "recorded_at" {
		filter.Sort = ""
	} else {
		filter.Sort = "recorded_at"
	}
	if _, _, err := f.svc.Statement(t.Context(), id, filter, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
		t.Fatalf("cursor of another order: %v", err)
	}
}

// TestThePastIsTheFoldOfAPrefix looks back to every position and every time of random histories, for every account, and compares the
// present with the whole fold.
func TestThePastIsTheFoldOfAPrefix(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		log := f.drawHistory(t)
		as := make(map[uuid.UUID]query.BalanceAt)
		for i, r := range log {
			as[r.id] = query.BalanceAt{
				ID: r.id, Owner: r.state.Owner, Currency: r.state.Currency, Balance: r.state.Balance, Overdraft: r.state.OverdraftLimit,
				Held: r.state.Held, Metadata: r.state.Metadata.Map(), Status: r.state.Status.String(), Version: r.version, Position: r.position, UpdatedAt: r.at,
			}
			moments := []query.AsOf{{Position: r.position}}
			if i == len(log)-1 || log[i+1].at.After(r.at) { // the last of its time
				moments = append(moments, query.AsOf{Time: r.at}, query.AsOf{Time: r.at.Add(999)})
				if i < len(log)-1 {
					moments = append(moments, query.AsOf{Time: log[i+1].at.Add(-1)})
				}
			}
			for _, at := range moments {
				f.look(t, at, as, int64(len(log)))
			}
		}
		f.look(t, query.AsOf{Time: log[0].at.Add(-time.Microsecond)}, nil, int64(len(log)))
		for _, id := range accountIDs {
			f.checkAccount(t, log, id)
			f.checkHolds(t, log, id)
		}
		f.checkTransfers(t, log)
		f.checkTotals(t, log)
	})
}

// look compares all accounts as of a point in the past with what they should be.
func (f *fixture) look(t *rapid.T, at query.AsOf, want map[uuid.UUID]query.BalanceAt, head int64) {
	for _, id := range accountIDs {
		got, applied, err := f.svc.BalanceAt(t.Context(), id, at, query.Wait{})
		w, open := want[id]
		if !open && !errors.Is(err, query.ErrNotFound) || open && err != nil || applied != head || !cmp.Equal(got, w, currencies) {
			t.Fatalf("account %s at %+v: %+v, %d, %v\nwant %+v", id, at, got, applied, err, w)
		}
	}
}

// checkTotals compares the totals with the sums of the balances read model, and with what came in less what went out.
func (f *fixture) checkTotals(t *rapid.T, log []recorded) {
	totals, applied, err := f.svc.Totals(t.Context(), query.Wait{})
	if err != nil || applied != int64(len(log)) {
		t.Fatalf("totals at %d: %v", applied, err)
	}
	accounts := make(map[string]int64)
	for _, r := range log {
		if e, ok := r.event.(account.AccountCreated); ok {
			accounts[e.Currency.Code()]++
		}
	}
	if got := slices.Sorted(maps.Keys(accounts)); len(got) != len(totals) {
		t.Fatalf("totals of %v: %+v", got, totals)
	}
	rat := func(text string) *big.Rat {
		n, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is not a number", text)
		}
		return n
	}
	for _, total := range totals {
		var sum string
		err := f.pool.QueryRow(t.Context(), `select sum(balance)::text from balances where currency = $1 and generation = 1`, total.Currency.Code()).Scan(&sum)
		if err != nil {
			t.Fatalf("sum: %v", err)
		}
		minor := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(total.Currency.Exponent())), nil))
		moved := new(big.Rat).Sub(rat(total.Deposited), rat(total.Withdrawn))
		if balance := rat(total.Balance); total.Accounts != accounts[total.Currency.Code()] || balance.Cmp(moved) != 0 ||
			new(big.Rat).Mul(balance, minor).Cmp(rat(sum)) != 0 {
			t.Fatalf("%+v, balances of %s", total, sum)
		}
	}
}
