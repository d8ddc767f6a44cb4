package httpapi_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/query"
)

const balancePath = "/accounts/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f/balance"

func TestBalance(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	got := a.send("GET", balancePath, "")
	want := `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","available":"170.00","balance":"120.00","currency":"EUR",` +
		`"held":"0.00","metadata":{},"owner":"Ada","position":41,"status":"active","updated_at":"2026-01-02T14:04:05.120000Z","version":5}`
	h := got.header
	if got.status != http.StatusOK || got.text != want {
		t.Errorf("%d %s", got.status, got.text)
	}
	if h.Get("ETag") != `"5"` || h.Get("Passbook-Position") != "42" || h.Get("Cache-Control") != "no-cache" {
		t.Errorf("%v", h)
	}
	if h.Get("Preference-Applied") != "" {
		t.Errorf("a preference that was not given: %v", h)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*query.Account)
		want   map[string]any
	}{
		{"open", func(*query.Account) {}, map[string]any{
			"overdraft_limit": "50.00", "deposited": "120.00", "withdrawn": "0.00", "closed_at": nil,
		}},
		{"closed", func(a *query.Account) { a.Status, a.ClosedAt = "closed", moment }, map[string]any{
			"status": "closed", "closed_at": "2026-01-02T14:04:05.120000Z",
		}},
		{"overdrawn yen", func(a *query.Account) {
			a.Currency, _ = money.LookupCurrency("JPY")
			a.Balance, a.Overdraft = -20, 50
		}, map[string]any{"balance": "-20", "available": "30"}},
		{"with a hold", func(a *query.Account) { a.Held = 13000 }, map[string]any{"held": "130.00", "available": "40.00"}},
		{"overdrawn beyond what is held", func(a *query.Account) { a.Balance, a.Overdraft, a.Held = math.MinInt64+5, 10, 15 }, map[string]any{
			"available": "-92233720368547758.08",
		}},
		{"at the end of the range", func(a *query.Account) { a.Balance, a.Overdraft = math.MaxInt64, math.MaxInt64 }, map[string]any{
			"balance": "92233720368547758.07", "available": "92233720368547758.07",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{account: func(id uuid.UUID, _ query.Wait) (query.Account, int64, error) {
				account := sampleAccount(id)
				tt.change(&account)
				return account, 42, nil
			}})
			got := a.send("GET", strings.TrimSuffix(balancePath, "/balance"), "")
			body := got.json(t)
			for name, want := range tt.want {
				if body[name] != want {
					t.Errorf("%s is %v, want %v", name, body[name], want)
				}
			}
		})
	}
}

func TestNotModified(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	list := a.send("GET", "/accounts", "").header.Get("ETag")
	for _, tt := range []struct {
		path   string
		have   []string
		status int
	}{
		{balancePath, []string{`"5"`}, 304},
		{balancePath, []string{`W/"5"`}, 304},
		{balancePath, []string{`"4", "5"`}, 304},
		{balancePath, []string{`"4"`, `"5"`}, 304},
		{balancePath, []string{`*`}, 304},
		{balancePath, []string{`"4"`}, 200},
		{balancePath, []string{`5`}, 200},
		{balancePath, []string{`"`}, 200},
		{balancePath, []string{`, ,`}, 200},
		{strings.TrimSuffix(balancePath, "/balance"), []string{`"5"`}, 304},
		{"/accounts", []string{list}, 304},
		{"/accounts", []string{`"5"`}, 200},
	} {
		var headers []string
		for _, have := range tt.have {
			headers = append(headers, "If-None-Match", have)
		}
		if got := a.send("GET", tt.path, "", headers...); got.status != tt.status || got.header.Get("Passbook-Position") != "42" {
			t.Errorf("%s %q: %d %v", tt.path, tt.have, got.status, got.header)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	var asked query.Wait
	a := serve(t, &service{account: func(id uuid.UUID, w query.Wait) (query.Account, int64, error) {
		asked = w
		return sampleAccount(id), 42, nil
	}})
	for _, tt := range []struct {
		query   string
		prefer  []string
		want    query.Wait
		applied string
	}{
		{"", nil, query.Wait{Timeout: 5 * time.Second}, ""},
		{"?min_position=7", nil, query.Wait{MinPosition: 7, Timeout: 5 * time.Second}, ""},
		{"?min_position=7", []string{"wait=2"}, query.Wait{MinPosition: 7, Timeout: 2 * time.Second}, "wait=2"},
		{"?min_position=7", []string{"wait=0"}, query.Wait{MinPosition: 7}, "wait=0"},
		{"?min_position=7", []string{"wait=31"}, query.Wait{MinPosition: 7, Timeout: 30 * time.Second}, "wait=30"},
		{"?min_position=7", []string{"wait=99999999999999999999"}, query.Wait{MinPosition: 7, Timeout: 30 * time.Second}, "wait=30"},
		{"?min_position=7", []string{`respond-async, Wait = "3";x=1`}, query.Wait{MinPosition: 7, Timeout: 3 * time.Second}, "wait=3"},
		{"?min_position=7", []string{"respond-async", "wait=4"}, query.Wait{MinPosition: 7, Timeout: 4 * time.Second}, "wait=4"},
		{"?min_position=7", []string{"wait=soon"}, query.Wait{MinPosition: 7, Timeout: 5 * time.Second}, ""},
		{"?min_position=7", []string{"wait=-1"}, query.Wait{MinPosition: 7, Timeout: 5 * time.Second}, ""},
	} {
		var headers []string
		for _, p := range tt.prefer {
			headers = append(headers, "Prefer", p)
		}
		got := a.send("GET", balancePath+tt.query, "", headers...)
		if got.status != 200 || asked != tt.want || got.header.Get("Preference-Applied") != tt.applied {
			t.Errorf("%s %q: %d %+v %v", tt.query, tt.prefer, got.status, asked, got.header)
		}
	}
}

func TestErrorsOfQueries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err      error
		status   int
		code     string
		position string
	}{
		{query.ErrNotFound, 404, "account-not-found", "42"},
		{query.ErrBehind, 503, "projection-behind", "42"},
		{fmt.Errorf("read: %w", errUnavailable), 503, "unavailable", ""},
		{query.ErrBadCursor, 400, "invalid-cursor", ""},
		{errors.New("cause"), 500, "internal-error", ""},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{
				account: func(uuid.UUID, query.Wait) (query.Account, int64, error) { return query.Account{}, 42, tt.err },
				accounts: func(query.ListFilter, query.Wait) (query.Page, int64, error) {
					return query.Page{}, 42, tt.err
				},
			})
			for _, path := range []string{balancePath, "/accounts"} {
				got := a.send("GET", path, "")
				code, _ := got.problem(t)
				if got.status != tt.status || code != tt.code || got.header.Get("Passbook-Position") != tt.position {
					t.Errorf("%s: %d %s %v", path, got.status, got.text, got.header)
				}
				if wants := tt.status == 503; (got.header.Get("Retry-After") != "") != wants || got.header.Get("ETag") != "" {
					t.Errorf("%s: %v", path, got.header)
				}
			}
		})
	}
}

// TestBehindSaysWhereTheLogEnds expects the problem of a read that waited in vain to tell how far the read model and the log are, and
// that a position beyond the log may be a typo.
func TestBehindSaysWhereTheLogEnds(t *testing.T) {
	t.Parallel()
	s := &service{
		account: func(uuid.UUID, query.Wait) (query.Account, int64, error) { return query.Account{}, 42, query.ErrBehind },
		past: func(query.AsOf, query.Wait) (query.BalanceAt, int64, error) {
			return query.BalanceAt{}, 42, query.ErrBehind
		},
	}
	a := serve(t, s)
	for query, want := range map[string]string{
		"?min_position=43":     "applied the log up to position 42, and the log ends at 43; retry shortly",
		"?min_position=44":     "The log ends at position 43, before 44. Either it is a typo,",
		"?at_position=1000000": "The log ends at position 43, before 1000000. Either it is a typo,",
	} {
		if got := a.send("GET", balancePath+query, ""); got.status != 503 || !strings.Contains(got.text, want) {
			t.Errorf("%s: %d %s", query, got.status, got.text)
		}
	}
	s.status = func(string) (projector.Status, error) { return projector.Status{}, errUnavailable }
	if got := a.send("GET", balancePath+"?min_position=44", ""); got.status != 503 || !strings.Contains(got.text, "has applied the log up to position 42; retry") {
		t.Errorf("without the head: %d %s", got.status, got.text)
	}
}

func TestListAccounts(t *testing.T) {
	t.Parallel()
	var asked query.ListFilter
	s := new(service)
	plain := new(service)
	s.accounts = func(f query.ListFilter, w query.Wait) (query.Page, int64, error) {
		asked = f
		return plain.Accounts(t.Context(), f, w)
	}
	a := serve(t, s)
	got := a.send("GET", "/accounts?owner=Ada+L%C3%B6we&currency=EUR&status=active&sort=-owner&limit=500&cursor=xyz&min_position=3", "")
	want := query.ListFilter{Owner: "Ada Löwe", Currency: "EUR", Status: "active", Sort: "-owner", Limit: 500, Cursor: "xyz"}
	if got.status != 200 || asked != want {
		t.Errorf("%d %s: %+v", got.status, got.text, asked)
	}
	const link = `</accounts?currency=EUR&cursor=abc&limit=500&owner=Ada+L%C3%B6we&sort=-owner&status=active>; rel="next"`
	if got.header.Get("Link") != link || got.json(t)["next_cursor"] != "abc" {
		t.Errorf("%v %s", got.header, got.text)
	}
	a.send("GET", "/accounts", "")
	if asked != (query.ListFilter{Limit: 50}) {
		t.Errorf("%+v", asked)
	}
	s.accounts = func(query.ListFilter, query.Wait) (query.Page, int64, error) { return query.Page{}, 0, nil }
	got = a.send("GET", "/accounts", "")
	if got.text != `{"accounts":[],"next_cursor":null}` || got.header.Get("Link") != "" || got.header.Get("Passbook-Position") != "0" {
		t.Errorf("%s %v", got.text, got.header)
	}
}

func TestBadParameters(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for path, want := range map[string][]string{
		balancePath + "?x=1":                              {"x"},
		balancePath + "?min_position=-1":                  {"min_position"},
		balancePath + "?min_position=":                    {"min_position"},
		balancePath + "?min_position=1.0":                 {"min_position"},
		balancePath + "?min_position=9223372036854775808": {"min_position"},
		balancePath + "?min_position=1&min_position=1":    {"min_position"},
		"/accounts?limit=0&sort=x&status=gone&currency=eur&owner=&cursor=&y=1": {
			"limit", "sort", "status", "currency", "owner", "cursor", "y",
		},
		"/accounts?limit=501":                                  {"limit"},
		"/accounts?limit=99999999999":                          {"limit"},
		"/accounts?owner=%00":                                  {"owner"},
		"/accounts?owner=%FF":                                  {"owner"},
		"/accounts?owner=" + strings.Repeat("x", 201):          {"owner"},
		"/accounts?cursor=%20":                                 {"cursor"},
		"/accounts?owner=%zz":                                  {""},
		"/accounts?a;b":                                        {""},
		"/accounts/x":                                          {"account_id"},
		balancePath + "?at=2026-01-02":                         {"at"},
		balancePath + "?at=":                                   {"at"},
		balancePath + "?at=2026-01-02T15:04:05+01:00":          {"at"},
		balancePath + "?at=2026-01-02T15:04:05,5Z":             {"at"},
		balancePath + "?at_position=0":                         {"at_position"},
		balancePath + "?at_position=1.5":                       {"at_position"},
		balancePath + "?at=2026-01-02T15:04:05Z&at_position=1": {"at"},
		transactionsPath + "?from=yesterday&to=2026-13-01T00:00:00Z&kind=opened&sort=amount": {"from", "to", "kind", "sort"},
		transactionsPath + "?limit=501&cursor=%20&owner=x":                                   {"limit", "cursor", "owner"},
		"/accounts/x/transactions":                                                           {"account_id"},
		"/totals?currency=EUR":                                                               {"currency"},
		"/accounts/0190a0d27c4e7b1c9a532f5b0c1d2e3f":                                         {"account_id"},
		"/accounts/%30190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f/balance?x=1":                       {"account_id", "x"},
		"/projections/Balances":                                                              {"projection_id"},
		"/projections/%00":                                                                   {"projection_id"},
		"/projections/%FF":                                                                   {"projection_id"},
		"/projections/balances/replays/1":                                                    {"replay_id"},
		"/projections/balances?x=1":                                                          {"x"},
		// Of no account: without a refusal, a filter by it would select all.
		"/accounts/" + nilID:                 {"account_id"},
		"/accounts/" + nilID + "/balance":    {"account_id"},
		"/transactions?transfer_id=" + nilID: {"transfer_id"},
		"/transfers/" + nilID:                {"transfer_id"},
		"/events?subject=" + nilID:           {"subject"},
		"/access?account_id=" + nilID:        {"account_id"},
		"/livez?x=1":                         {"x"},
	} {
		got := a.send("GET", path, "")
		code, errs := got.problem(t)
		if got.status != http.StatusBadRequest || code != "invalid-parameter" || len(errs) != len(want) {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
		for _, name := range want {
			if errs[name] == "" {
				t.Errorf("%s: %s is not named in %s", path, name, got.text)
			}
		}
	}
}

// A cursor contains an owner of 200 characters, each of which may have four bytes.
func TestLongestCursor(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	longest := strings.Repeat("A", base64.RawURLEncoding.EncodedLen(8+1+36+1+200*utf8.UTFMax))
	if got := a.send("GET", "/accounts?sort=owner&cursor="+longest, ""); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// nilID is well-formed and the id of nothing.
const nilID = "00000000-0000-0000-0000-000000000000"

func TestLongURL(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, path := range []string{"/transactions?reference=" + strings.Repeat("r", 32<<10), "/accounts/" + strings.Repeat("p", 40<<10)} {
		got := a.send("GET", path, "")
		if code, _ := got.problem(t); got.status != http.StatusRequestURITooLong || code != "uri-too-long" {
			t.Errorf("%.20s… of %d bytes: %d %s", path, len(path), got.status, got.text)
		}
	}
}

// TestConditionsOnGet is RFC 9110, sections 13.1.1 and 13.2.2: If-Match counts first, and a weak tag never matches.
func TestConditionsOnGet(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	list := a.send("GET", "/accounts", "").header.Get("Etag")
	for _, tt := range []struct {
		path, match, none string
		status            int
	}{
		{balancePath, `"5"`, ``, 200},
		{balancePath, `"4", "5"`, ``, 200},
		{balancePath, `*`, ``, 200},
		{balancePath, `"4"`, ``, 412},
		{balancePath, `W/"5"`, ``, 412},
		{balancePath, `"x"`, `"5"`, 412},
		{balancePath, `"5"`, `"5"`, 304},
		{balancePath, `5`, ``, 400},
		{"/accounts", list, ``, 200},
		{"/accounts", `"5"`, ``, 412},
		{"/console", `"x"`, ``, 412},
		{"/openapi.yaml", `*`, ``, 200},
		{"/openapi.yaml", `"x"`, ``, 412},
		{"/totals", `"x"`, ``, 412},
		{"/none", `"x"`, ``, 404},
	} {
		got := a.send("GET", tt.path, "", "If-Match", tt.match, "If-None-Match", tt.none)
		if got.status != tt.status {
			t.Errorf("%s with If-Match: %s, If-None-Match: %s: %d %.200s", tt.path, tt.match, tt.none, got.status, got.text)
		}
		if tt.status == 412 && got.json(t)["code"] != "precondition-failed" {
			t.Errorf("%s: %s", tt.path, got.text)
		}
	}
}
