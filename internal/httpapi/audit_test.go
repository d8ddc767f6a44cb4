package httpapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/access"
	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/httpapi/feed"
	"passbook/internal/query"
)

// audit replaces the access audit.
type audit struct {
	mu      sync.Mutex
	full    bool
	skip    bool
	records []access.Record
	asked   access.Filter
}

func (a *audit) Begin() (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full {
		return true, access.ErrFull
	}
	return !a.skip, nil
}

func (a *audit) Add(r access.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.records = append(a.records, r)
}

func (a *audit) List(_ context.Context, f access.Filter) (access.Page, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = f
	if f.Cursor == "nonsense" {
		return access.Page{}, access.ErrBadCursor
	}
	page := access.Page{Next: "abc"}
	for i := range a.records {
		page.Records = append(page.Records, access.Stored{Record: a.records[i], Run: replayID, Number: int64(i) + 1})
	}
	return page, nil
}

// told returns the records so far and forgets them, as "kind method route status position accounts"; an account is its last digits.
func (a *audit) told(t *testing.T, want int) (lines []string) {
	t.Helper()
	// A record is added when its response is complete, and the caller may have it before.
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(time.Millisecond) {
		a.mu.Lock()
		n := len(a.records)
		a.mu.Unlock()
		if n >= want || time.Now().After(deadline) {
			break
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.records {
		r := &a.records[i]
		line := fmt.Sprint(r.Kind, " ", r.Method, " ", r.Route, " ", r.Status, " ", r.Position)
		for _, id := range r.Accounts {
			line += " " + id.String()[34:]
		}
		if r.AnyAccount {
			line += " any"
		}
		lines = append(lines, line)
	}
	a.records = nil
	return lines
}

// TestReadsAreRecorded sends requests of all kinds and checks what the audit has of each: the accounts that the response is about, and
// nothing for requests that read nothing.
func TestReadsAreRecorded(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(3)
	s := &service{auth: &callers{}, feed: feed.Config{Log: l}}
	s.recorder = &s.audit
	s.account = func(id uuid.UUID, _ query.Wait) (query.Account, int64, error) {
		if id == eventID {
			return query.Account{}, 42, query.ErrNotFound
		}
		return sampleAccount(id), 42, nil
	}
	s.do = func(r command.Request) (command.Result, error) {
		if withdraw, ok := r.Command.(account.Withdraw); ok && withdraw.Reference == "too much" {
			return command.Result{}, &account.Refusal{Code: "insufficient-funds", Detail: "the balance is 1.00 EUR"}
		}
		return recorded(r, 7, 3), nil
	}
	a := serve(t, s)
	one := "/accounts/" + accountID.String()
	withdrawal := `{"account_id":"` + accountID.String() + `","amount":"1","reference":"too much"}`
	transfer := `{"from_account_id":"` + accountID.String() + `","to_account_id":"` + eventID.String() + `","amount":"1"}`
	bulk := `[{"command":"deposit","account_id":"` + holdID.String() + `","amount":"1"},{"command":"withdraw",` + withdrawal[1:] + `]`
	for _, test := range []struct{ method, path, body, want string }{
		{"GET", one, "", "read GET /accounts/{account_id} 200 42 3f"},
		{"HEAD", one, "", "read HEAD /accounts/{account_id} 200 42 3f"},
		{"GET", one + "/balance", "", "read GET /accounts/{account_id}/balance 200 42 3f"},
		{"GET", one + "/transactions", "", "read GET /accounts/{account_id}/transactions 200 42 3f"},
		{"GET", one + "/statement", "", "read GET /accounts/{account_id}/statement 200 4 3f"},
		{"GET", one + "/holds", "", "read GET /accounts/{account_id}/holds 200 42 3f"},
		{"GET", "/accounts/" + eventID.String(), "", "read GET /accounts/{account_id} 404 42 40"},
		{"GET", "/accounts", "", "read GET /accounts 200 42 3f 40"},
		{"GET", "/transactions", "", "read GET /transactions 200 42 3f"},
		{"GET", "/transfers/" + replayID.String(), "", "read GET /transfers/{transfer_id} 200 42 3f"},
		{"GET", "/totals", "", "read GET /totals 200 42"},
		{"GET", "/stats", "", "read GET /stats 200 42"},
		{"GET", "/holds", "", "read GET /holds 200 42 3f"},
		{"GET", "/log/proofs/inclusion?position=3", "", "read GET /log/proofs/inclusion 200 0 3f"},
		{"GET", failuresPath, "", "read GET /projections/{projection_id}/failures 200 0 3f"},
		{"GET", "/events?after=3", "", "read GET /events 200 3"},
		{"GET", "/access", "", "read GET /access 200 0 any"},
		{"GET", "/access?cursor=nonsense", "", "read GET /access 400 0"},
		{"GET", "/events", "", "read GET /events 200 3 3f"},
		{"GET", "/access?account_id=" + accountID.String(), "", "read GET /access 200 0 3f"},
		{"POST", "/withdrawals", withdrawal, "read POST /withdrawals 422 0 3f"},
		{"POST", "/transfers?dry_run=true", transfer, "read POST /transfers 200 0 3f 40"},
		{"POST", "/commands", bulk, "read POST /commands 200 0 3f"},

		{"POST", "/transfers", transfer, ""},
		{"POST", "/deposits", `{}`, ""},
		{"GET", "/schemas/MoneyDeposited/1", "", ""},
		{"GET", "/log/checkpoint", "", ""},
		{"GET", "/log/proofs/consistency?from=3", "", ""},
		{"GET", "/projections", "", ""},
		{"GET", "/nowhere", "", ""},
	} {
		scope := "accounts:read+accounts:write+events:read+audit:read+projections:read"
		got := a.send(test.method, test.path, test.body, "Authorization", "Bearer "+scope)
		want := []string{test.want}
		if test.want == "" {
			want = nil
		}
		if told := s.audit.told(t, len(want)); !slices.Equal(told, want) {
			t.Errorf("%s %s: %q, want %q; %s", test.method, test.path, told, want, got.text)
		}
	}
	// A caller that is refused has read nothing.
	for _, credential := range []string{"nobody", "metrics:read"} {
		a.send("GET", one, "", "Authorization", "Bearer "+credential)
		if told := s.audit.told(t, 0); len(told) > 0 {
			t.Errorf("%s: %q", credential, told)
		}
	}
}

// TestRecordsNameTheCaller checks the other fields of a record, and how GET /access shows them.
func TestRecordsNameTheCaller(t *testing.T) {
	t.Parallel()
	s := &service{auth: &callers{}}
	s.recorder = &s.audit
	a := serve(t, s)
	headers := []string{"Authorization", "Bearer accounts:read+audit:read", "X-Request-Id", "mine"}
	a.send("GET", "/accounts/"+accountID.String(), "", headers...)
	got := a.send("GET", "/access?account_id="+accountID.String()+"&caller=x&from=2026-01-01T00:00:00Z&limit=7", "", headers...)
	records, _ := got.json(t)["records"].([]any)
	if len(records) == 0 || got.header.Get("Link") == "" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	first, _ := records[0].(map[string]any)
	delete(first, "at")
	want := map[string]any{
		"run": replayID.String(), "number": 1.0, "kind": "read", "caller": "key:accounts:read+audit:read", "caller_name": "test", "method": "GET",
		"route": "/accounts/{account_id}", "accounts": []any{accountID.String()}, "any_account": false, "status": 200.0, "request_id": "mine",
		"address": "127.0.0.1", "position": 42.0,
	}
	if fmt.Sprint(first) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", first, want)
	}
	if f := s.audit.asked; f.Account != accountID || f.Caller != "x" || f.From == nil || f.To != nil || f.Limit != 7 {
		t.Errorf("%+v", f)
	}
	if got := a.send("GET", "/access?cursor=nonsense", "", headers...); got.status != 400 || !strings.Contains(got.text, "invalid-cursor") {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := a.send("GET", "/access", "", "Authorization", "Bearer accounts:read"); got.status != 403 {
		t.Errorf("without the scope: %d %s", got.status, got.text)
	}
}

// TestAStreamIsRecordedTwice expects a record when a stream of all events begins, and one when it ends, with the position it reached.
func TestAStreamIsRecordedTwice(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(3)
	s := &service{feed: feed.Config{Log: l, Poll: time.Millisecond}}
	s.recorder = &s.audit
	a := serve(t, s)
	for path, who := range map[string]string{"/events?after=1": "any", "/events?after=1&subject=" + accountID.String(): "3f"} {
		stream := a.follow(path)
		stream.take(2, 2)
		if told := s.audit.told(t, 1); !slices.Equal(told, []string{"opened GET /events 200 1 " + who}) {
			t.Errorf("%s: %q when it begins", path, told)
		}
		_ = stream.response.Body.Close()
		if told := s.audit.told(t, 1); !slices.Equal(told, []string{"read GET /events 200 3 " + who}) {
			t.Errorf("%s: %q when it ends", path, told)
		}
	}
}

// TestReadsThatCannotBeRecorded expects 503 for reads and dry runs, and no effect on commands.
func TestReadsThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	s := &service{}
	s.recorder, s.audit.full = &s.audit, true
	a := serve(t, s)
	deposit := `{"account_id":"` + accountID.String() + `","amount":"1"}`
	for _, read := range [][3]string{{"GET", "/accounts", ""}, {"GET", "/events", ""}, {"POST", "/deposits?dry_run=true", deposit}} {
		got := a.send(read[0], read[1], read[2])
		if code, _ := got.problem(t); got.status != 503 || code != "audit-unavailable" || got.header.Get("Retry-After") == "" {
			t.Errorf("%v: %d %s", read, got.status, got.text)
		}
	}
	if got := a.send("POST", "/deposits", deposit); got.status != 201 {
		t.Errorf("a deposit: %d %s", got.status, got.text)
	}
	if _, reached := s.last(); !reached {
		t.Error("the deposit did not reach the write side")
	}
	s.audit.mu.Lock()
	s.audit.full, s.audit.skip = false, true
	s.audit.mu.Unlock()
	if a.send("GET", "/accounts", ""); len(s.audit.told(t, 0)) > 0 {
		t.Error("a read was recorded that is not in the sample")
	}
}

// TestManyAccounts expects several records for a response about more accounts than one record has.
func TestManyAccounts(t *testing.T) {
	t.Parallel()
	s := &service{}
	s.recorder = &s.audit
	a := serve(t, s)
	var body strings.Builder
	for range 2500 {
		fmt.Fprintf(&body, `{"command":"deposit","account_id":"%s","amount":"1"}`+"\n", uuid.New())
	}
	if got := a.send("POST", "/commands?dry_run=true", body.String(), "Content-Type", "application/x-ndjson"); got.status != 200 {
		t.Fatalf("%d", got.status)
	}
	told := s.audit.told(t, 3)
	if len(told) != 3 || strings.Count(strings.Join(told, ""), " ") != 3*4+2500 {
		t.Errorf("%d records: %.200q", len(told), told)
	}
}
