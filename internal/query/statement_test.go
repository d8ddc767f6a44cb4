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
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

// recorded is an event in the log, with what the domain's own Evolve makes of its account.
type recorded struct {
	id       uuid.UUID
	event    account.Event
	position int64
	version  int64
	at       time.Time
	state    account.State
}

// happen appends random events of four accounts to an empty log, some together and so at one time, and projects them.
func (f *fixture) happen(t *rapid.T) []recorded {
	f.exec(t, `truncate events, idempotency_keys, projections, projection_replays, balances, transactions, account_details, totals`)
	states, versions := make(map[uuid.UUID]account.State), make(map[uuid.UUID]int64)
	var log []recorded
	for range rapid.IntRange(1, 8).Draw(t, "appends") {
		var events []eventstore.NewEvent
		from := len(log)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			for _, r := range anyStep(t, states) {
				next, err := account.Evolve(states[r.id], r.event)
				if err != nil {
					break // the domain would not have let it happen; the side of a transfer that may fail comes first
				}
				states[r.id] = next
				versions[r.id]++
				r.state, r.version, r.position = next, versions[r.id], int64(len(log)+1)
				log = append(log, r)
				e, err := eventjson.Encode(r.event)
				if err != nil {
					t.Fatalf("encode: %v", err)
				}
				events = append(events, eventstore.NewEvent{
					StreamID: r.id, Version: r.version,
					EventID: pgtest.EventID(r.id, r.version), Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload,
				})
			}
		}
		_, at := pgtest.Append(t, eventstore.New(f.pool), events...)
		for i := from; i < len(log); i++ {
			log[i].at = at
		}
	}
	f.project(t, rapid.IntRange(1, 10).Draw(t, "batch"))
	return log
}

// accountIDs are those of anyStep: two in each of two currencies.
var accountIDs = []uuid.UUID{{0: 1, 15: 1}, {0: 2, 15: 2}, {0: 0x80, 15: 3}, {0: 0xff, 15: 4}}

func anyStep(t *rapid.T, states map[uuid.UUID]account.State) []recorded {
	n := rapid.IntRange(0, 3).Draw(t, "account")
	id, other := accountIDs[n], accountIDs[n^2]
	currency, _ := money.LookupCurrency([]string{"EUR", "JPY"}[n&1])
	if !states[id].Exists() {
		return []recorded{{id: id, event: account.AccountCreated{Owner: "o", Currency: currency, OverdraftLimit: rapid.Int64Range(0, 50).Draw(t, "limit")}}}
	}
	amount := money.New(rapid.OneOf(rapid.Int64Range(1, 500), rapid.Just(int64(1<<62))).Draw(t, "amount"), currency)
	in := account.TransferReceived{TransferID: uuid.New(), From: id, Amount: amount, Reference: "r"}
	if _, err := account.Evolve(states[other], in); err == nil && rapid.Bool().Draw(t, "transfer") {
		out := account.TransferSent{TransferID: in.TransferID, To: other, Amount: amount, Reference: "r"}
		return []recorded{{id: id, event: out}, {id: other, event: in}}
	}
	return []recorded{{id: id, event: rapid.SampledFrom([]account.Event{
		account.MoneyDeposited{Amount: amount, Reference: "salary"},
		account.MoneyDeposited{Amount: amount},
		account.MoneyWithdrawn{Amount: amount},
		account.AccountSuspended{},
		account.AccountReactivated{},
		account.AccountClosed{},
	}).Draw(t, "event")}}
}

// follow applies the log to all read models until the test ends.
func (f *fixture) follow(t *testing.T) {
	t.Helper()
	engine := f.engine(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = engine.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// project applies the whole log to all read models, by batches of a size.
func (f *fixture) project(t interface{ Fatalf(string, ...any) }, batch int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	engine := f.engine(t, batch)
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { _ = engine.Run(running); close(ended) }()
	defer func() { stop(); <-ended }()
	ticker := time.NewTicker(time.Millisecond)
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
	engine, err := projector.New(projector.Config{
		Pool: f.pool, Log: eventstore.New(f.pool), Instance: "test", Batch: batch, Poll: time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, readmodel.Balances(), readmodel.Transactions(), readmodel.Totals())
	if err != nil {
		t.Fatalf("engine: %v", err)
	}
	return engine
}

// movements are what a statement is to show of an account, in the order of the log.
func movements(log []recorded, id uuid.UUID) []query.Transaction {
	var all []query.Transaction
	for _, r := range log {
		if r.id != id {
			continue
		}
		m := query.Transaction{
			AccountID: id, Currency: r.state.Currency, ReversedBy: []int64{}, Balance: r.state.Balance, Version: r.version, Position: r.position, RecordedAt: r.at,
		}
		switch e := r.event.(type) {
		case account.MoneyDeposited:
			m.Kind, m.Amount, m.Reference = "deposit", e.Amount.Minor(), e.Reference
		case account.MoneyWithdrawn:
			m.Kind, m.Amount, m.Reference = "withdrawal", e.Amount.Minor(), e.Reference
		case account.TransferReceived:
			m.Kind, m.Amount, m.Reference, m.Counterparty, m.TransferID = "transfer_in", e.Amount.Minor(), e.Reference, e.From, e.TransferID
		case account.TransferSent:
			m.Kind, m.Amount, m.Reference, m.Counterparty, m.TransferID = "transfer_out", e.Amount.Minor(), e.Reference, e.To, e.TransferID
		default:
			continue
		}
		all = append(all, m)
	}
	return all
}

// currencies lets currencies be compared.
var currencies = cmp.AllowUnexported(money.Currency{})

// TestStatementsAreTheFold pages through the statements of random histories.
func TestStatementsAreTheFold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		log := f.happen(t)
		for range 5 {
			id := rapid.SampledFrom(accountIDs).Draw(t, "whose")
			filter := anyFilter(t, log)
			want := slices.DeleteFunc(movements(log, id), func(m query.Transaction) bool {
				return filter.Kind != "" && m.Kind != filter.Kind || filter.From != nil && m.RecordedAt.Before(*filter.From) ||
					filter.To != nil && !m.RecordedAt.Before(*filter.To)
			})
			if filter.Sort != "recorded_at" {
				slices.Reverse(want)
			}
			known := slices.ContainsFunc(log, func(r recorded) bool {
				return r.id == id && (filter.To == nil || r.at.Before(*filter.To))
			})
			got := f.pages(t, id, filter, known, int64(len(log)))
			if len(got) == 0 && len(want) == 0 {
				continue
			}
			if diff := cmp.Diff(want, got, currencies); diff != "" {
				t.Fatalf("account %s, filter %+v (-want +got):\n%s", id, filter, diff)
			}
		}
	})
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
		Kind: rapid.SampledFrom([]string{"", "", "deposit", "withdrawal", "transfer_in", "transfer_out"}).Draw(t, "kind"),
		Sort: rapid.SampledFrom([]string{"", "-recorded_at", "recorded_at"}).Draw(t, "sort"),
	}
}

// pages reads a statement page by page, to its end, and tampers with the cursors.
func (f *fixture) pages(t *rapid.T, id uuid.UUID, filter query.StatementFilter, known bool, head int64) (all []query.Transaction) {
	for {
		page, applied, err := f.svc.Statement(t.Context(), id, filter, query.Wait{MinPosition: head})
		if !known {
			if !errors.Is(err, query.ErrNotFound) || applied != head {
				t.Fatalf("an account that is not there: %d, %v", applied, err)
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
			t.Fatalf("a page is short, and not the last: %+v", page)
		}
		f.tamperStatement(t, id, filter, page.Next)
		filter.Cursor = page.Next
	}
}

// tamperStatement changes a cursor, or takes it to another list: it is refused, or is one that might have been made.
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

// TestThePastIsTheFoldOfAPrefix looks back to every position and every time of random histories, for every account.
func TestThePastIsTheFoldOfAPrefix(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		log := f.happen(t)
		as := make(map[uuid.UUID]query.BalanceAt)
		for i, r := range log {
			as[r.id] = query.BalanceAt{
				ID: r.id, Owner: r.state.Owner, Currency: r.state.Currency, Balance: r.state.Balance, Overdraft: r.state.OverdraftLimit,
				Status: r.state.Status.String(), Version: r.version, Position: r.position, UpdatedAt: r.at,
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
		f.checkTotals(t, log)
	})
}

// look compares all accounts as of a time with what they should be.
func (f *fixture) look(t *rapid.T, at query.AsOf, want map[uuid.UUID]query.BalanceAt, head int64) {
	for _, id := range accountIDs {
		got, applied, err := f.svc.BalanceAt(t.Context(), id, at, query.Wait{})
		w, open := want[id]
		if !open && !errors.Is(err, query.ErrNotFound) || open && err != nil || applied != head || !cmp.Equal(got, w, currencies) {
			t.Fatalf("account %s at %+v: %+v, %d, %v\nwant %+v", id, at, got, applied, err, w)
		}
	}
}

// checkTotals compares the totals with the balances in the read model of balances, and with what came in and went out.
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
			t.Fatalf("%q is no number", text)
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
