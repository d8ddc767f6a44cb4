package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"passbook/internal/money"
	"passbook/internal/query"
)

const transactionsPath = "/accounts/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f/transactions"

func (s *service) BalanceAt(_ context.Context, id uuid.UUID, at query.AsOf, w query.Wait) (query.BalanceAt, int64, error) {
	if s.past != nil {
		return s.past(at, w)
	}
	eur, _ := money.LookupCurrency("EUR")
	return query.BalanceAt{
		ID: id, Owner: "Ada", Currency: eur, Balance: 700, Overdraft: 5000, Held: 200, Metadata: map[string]string{"b": "2", "a": "1"}, Status: "suspended", Version: 3, Position: 17, UpdatedAt: moment,
	}, 42, nil
}

func (s *service) Statement(_ context.Context, id uuid.UUID, f query.StatementFilter, w query.Wait) (query.Statement, int64, error) {
	if s.page != nil {
		return s.page(f, w)
	}
	eur, _ := money.LookupCurrency("EUR")
	return query.Statement{AccountID: id, Currency: eur, Next: "abc", Transactions: []query.Transaction{
		{
			AccountID: id, Currency: eur, Kind: "transfer_out", Amount: 500, Balance: 700, Counterparty: eventID, TransferID: replayID, Reference: "rent",
			Version: 3, Position: 17, RecordedAt: moment, ReversedBy: []int64{18, 20}, ReversedAmount: 450,
			Metadata: map[string]string{"b": "2", "a": "1"}, HoldID: replayID,
		},
		{
			AccountID: id, Currency: eur, Kind: "reversal_in", Amount: 1200, Balance: 1200, Version: 2, Position: 9, RecordedAt: moment,
			Reverses: 8, ReversedBy: []int64{},
		},
	}}, 42, nil
}

func (s *service) Totals(_ context.Context, w query.Wait) ([]query.Total, int64, error) {
	if s.totals != nil {
		return s.totals(w)
	}
	jpy, _ := money.LookupCurrency("JPY")
	eur, _ := money.LookupCurrency("EUR")
	return []query.Total{
		{Currency: eur, Accounts: 2, Balance: "-7.00", Deposited: "1.00", Withdrawn: "8.00"},
		{Currency: jpy, Accounts: 1, Balance: "0", Deposited: "0", Withdrawn: "0"},
	}, 42, nil
}

func TestBalanceAt(t *testing.T) {
	t.Parallel()
	var (
		asked  query.AsOf
		waited query.Wait
	)
	plain := new(service)
	a := serve(t, &service{past: func(at query.AsOf, w query.Wait) (query.BalanceAt, int64, error) {
		asked, waited = at, w
		return plain.BalanceAt(t.Context(), accountID, at, w)
	}})
	got := a.send("GET", balancePath+"?at_position=17", "")
	want := `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","available":"55.00","balance":"7.00","currency":"EUR",` +
		`"held":"2.00","metadata":{"a":"1","b":"2"},"owner":"Ada","position":17,"status":"suspended","updated_at":"2026-01-02T14:04:05.120000Z","version":3}`
	if got.status != http.StatusOK || got.text != want || got.header.Get("ETag") != `"3"` || got.header.Get("Passbook-Position") != "42" {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
	if asked != (query.AsOf{Position: 17}) || waited != (query.Wait{Timeout: 5 * time.Second}) {
		t.Errorf("%+v %+v", asked, waited)
	}
	for text, want := range map[string]time.Time{
		"2026-01-02T15:04:05%2B01:00":      time.Date(2026, 1, 2, 14, 4, 5, 0, time.UTC),
		"2026-01-02T15:04:05.123456789Z":   time.Date(2026, 1, 2, 15, 4, 5, 123456789, time.UTC),
		"0001-01-01T00:00:00Z":             {},
		"9999-12-31T23:59:59.999999-23:59": time.Date(10000, 1, 1, 23, 58, 59, 999999000, time.UTC),
	} {
		a.send("GET", balancePath+"?min_position=7&at="+text, "", "Prefer", "wait=1")
		if !asked.Time.Equal(want) || asked.Position != 0 || waited != (query.Wait{MinPosition: 7, Timeout: time.Second}) {
			t.Errorf("%s: %+v %+v", text, asked, waited)
		}
	}
}

func TestListTransactions(t *testing.T) {
	t.Parallel()
	var asked query.StatementFilter
	plain, s := new(service), new(service)
	s.page = func(f query.StatementFilter, w query.Wait) (query.Statement, int64, error) {
		asked = f
		return plain.Statement(t.Context(), accountID, f, w)
	}
	a := serve(t, s)
	got := a.send("GET", transactionsPath, "")
	want := `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","currency":"EUR","next_cursor":"abc","transactions":[` +
		`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"5.00","balance":"7.00",` +
		`"counterparty_account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e40","currency":"EUR","hold_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41",` +
		`"kind":"transfer_out","metadata":{"a":"1","b":"2"},"position":17,"recorded_at":"2026-01-02T14:04:05.120000Z","reference":"rent",` +
		`"reversed_amount":"4.50","reversed_by":[18,20],"reverses":null,"transfer_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41","version":3},` +
		`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"12.00","balance":"12.00","counterparty_account_id":null,` +
		`"currency":"EUR","hold_id":null,"kind":"reversal_in","metadata":{},"position":9,` +
		`"recorded_at":"2026-01-02T14:04:05.120000Z","reference":null,"reversed_amount":"0.00","reversed_by":[],"reverses":8,` +
		`"transfer_id":null,"version":2}]}`
	if got.status != http.StatusOK || got.text != want {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got.header.Get("Link") != `<`+transactionsPath+`?cursor=abc>; rel="next"` || got.header.Get("Passbook-Position") != "42" {
		t.Errorf("%v", got.header)
	}
	if diff := cmp.Diff(query.StatementFilter{Limit: 50}, asked); diff != "" {
		t.Error(diff)
	}
	if got := a.send("GET", transactionsPath, "", "If-None-Match", got.header.Get("ETag")); got.status != http.StatusNotModified {
		t.Errorf("%d", got.status)
	}
	a.send("GET", transactionsPath+"?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00%2B01:00&kind=transfer_in&sort=recorded_at&limit=7&cursor=xyz", "")
	from, to := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)
	if diff := cmp.Diff(query.StatementFilter{From: &from, To: &to, Kind: "transfer_in", Sort: "recorded_at", Limit: 7, Cursor: "xyz"}, asked); diff != "" {
		t.Error(diff)
	}
	s.page = func(query.StatementFilter, query.Wait) (query.Statement, int64, error) {
		eur, _ := money.LookupCurrency("EUR")
		return query.Statement{AccountID: accountID, Currency: eur}, 1, nil
	}
	empty := `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","currency":"EUR","next_cursor":null,"transactions":[]}`
	if got := a.send("GET", transactionsPath, ""); got.text != empty || got.header.Get("Link") != "" {
		t.Errorf("%s %v", got.text, got.header)
	}
}

func TestTotals(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	got := a.send("GET", "/totals?min_position=42", "")
	want := `{"totals":[{"accounts":2,"balance":"-7.00","currency":"EUR","deposited":"1.00","withdrawn":"8.00"},` +
		`{"accounts":1,"balance":"0","currency":"JPY","deposited":"0","withdrawn":"0"}]}`
	if got.status != http.StatusOK || got.text != want || got.header.Get("Passbook-Position") != "42" {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
	if got := a.send("GET", "/totals", "", "If-None-Match", got.header.Get("ETag")); got.status != http.StatusNotModified || got.text != "" {
		t.Errorf("%d %s", got.status, got.text)
	}
	s.totals = func(query.Wait) ([]query.Total, int64, error) { return nil, 0, nil }
	if got := a.send("GET", "/totals", ""); got.text != `{"totals":[]}` || got.header.Get("Passbook-Position") != "0" {
		t.Errorf("%s %v", got.text, got.header)
	}
}

func TestErrorsOfStatements(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err      error
		status   int
		code     string
		position string
	}{
		{query.ErrNotFound, 404, "account-not-found", "42"},
		{query.ErrNotOpenThen, 404, "account-not-found", "42"},
		{query.ErrBehind, 503, "projection-behind", "42"},
		{&query.FutureError{Parameter: "at"}, 400, "invalid-parameter", ""},
		{query.ErrBadCursor, 400, "invalid-cursor", ""},
		{fmt.Errorf("read: %w", errUnavailable), 503, "unavailable", ""},
		{errors.New("cause"), 500, "internal-error", ""},
	} {
		t.Run(tt.err.Error(), func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{
				past: func(query.AsOf, query.Wait) (query.BalanceAt, int64, error) { return query.BalanceAt{}, 42, tt.err },
				page: func(query.StatementFilter, query.Wait) (query.Statement, int64, error) {
					return query.Statement{}, 42, tt.err
				},
				totals: func(query.Wait) ([]query.Total, int64, error) { return nil, 42, tt.err },
			})
			for _, path := range []string{balancePath + "?at_position=3", transactionsPath, "/totals"} {
				if path == "/totals" && (tt.status == 404 || tt.status == 400) {
					continue // it takes no account, time or cursor
				}
				got := a.send("GET", path, "")
				code, errs := got.problem(t)
				if got.status != tt.status || code != tt.code || got.header.Get("Passbook-Position") != tt.position {
					t.Errorf("%s: %d %s %v", path, got.status, got.text, got.header)
				}
				if _, future := errors.AsType[*query.FutureError](tt.err); future && errs["at"] == "" {
					t.Errorf("%s: at is not named in %s", path, got.text)
				}
			}
		})
	}
}
