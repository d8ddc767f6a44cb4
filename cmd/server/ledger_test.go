package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// keyed sends a command twice with one key, and returns the response; both must be the same, byte for byte.
func (a api) keyed(method, path, body, key string, status int) (text string, header http.Header) {
	a.t.Helper()
	for try := range 2 {
		r, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, strings.NewReader(body))
		if err != nil {
			a.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", key)
		response, err := a.client.Do(r)
		if err != nil {
			a.t.Fatal(err)
		}
		got, err := io.ReadAll(response.Body)
		if closing := response.Body.Close(); err != nil || closing != nil {
			a.t.Fatal(err, closing)
		}
		if response.StatusCode != status {
			a.t.Fatalf("%s %s: %d %s, want %d", method, path, response.StatusCode, got, status)
		}
		if try == 0 {
			text, header = string(got), response.Header
			continue
		}
		if string(got) != text || response.Header.Get("Idempotency-Replayed") != "true" || response.Header.Get("ETag") != header.Get("ETag") ||
			response.Header.Get("Location") != header.Get("Location") {
			a.t.Errorf("%s %s: %s %v, then %s %v", method, path, text, header, got, response.Header)
		}
	}
	return text, header
}

// member returns the text of a member of a flat JSON object.
func member(t *testing.T, text, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(text, `"`+name+`":`)
	if !found {
		t.Fatalf("%s has no %s", text, name)
	}
	return strings.Trim(rest[:strings.IndexAny(rest, ",}")], `"`)
}

// TestLedgerEndToEnd runs the commands of holds, reversals and changes, each twice with its key: with refusals that are
// replayed, dry runs that record nothing, and an atomic group.
func TestLedgerEndToEnd(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	p := launch(t, build(t), "DATABASE_URL="+url)
	p.awaitReady(t, 60*time.Second)
	pool := connect(t, url)
	a := api{t, apitest.Client(t), p.base}

	events := func() (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), "select count(*) from events").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dry := a.call("POST", "/accounts?dry_run=true", `{"owner":"Ada","currency":"EUR","initial_deposit":"100"}`, 200)
	if dry["dry_run"] != true || dry["balance"] != "100.00" || dry["version"] != 2.0 || len(dry["events"].([]any)) != 2 || events() != 0 {
		t.Fatalf("%v, and %d events", dry, events())
	}
	opened, header := a.keyed("POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":"100","metadata":{"branch":"Paris"}}`, "open", 201)
	ada := "/accounts/" + member(t, opened, "account_id")
	if header.Get("Location") != ada || header.Get("ETag") != `"2"` || member(t, opened, "position") != "2" || member(t, opened, "type") != "AccountCreated" {
		t.Errorf("%s %v", opened, header)
	}
	bob := a.call("POST", "/accounts", `{"owner":"Bob","currency":"EUR"}`, 201)["account_id"].(string)

	hold := uuid.NewString()
	held, header := a.keyed("POST", ada+"/holds", `{"amount":"80","hold_id":"`+hold+`","reference":"room"}`, "hold", 201)
	if header.Get("Location") != ada+"/holds/"+hold || member(t, held, "hold_id") != hold {
		t.Errorf("%s %v", held, header)
	}
	if code := a.call("POST", ada+"/holds", `{"amount":"1","hold_id":"`+hold+`"}`, 409)["code"]; code != "hold-exists" {
		t.Error(code)
	}
	refused, _ := a.keyed("POST", ada+"/holds", `{"amount":"21"}`, "refused", 422)
	if member(t, refused, "code") != "insufficient-funds" || !strings.Contains(refused, `"pointer":"/amount"`) {
		t.Error(refused)
	}
	before := events()
	dry = a.call("POST", ada+"/holds/"+hold+"/capture?dry_run=true", `{"amount":"50","to_account_id":"`+bob+`"}`, 200)
	if dry["balance"] != "50.00" || dry["available"] != "50.00" || dry["version"] != 5.0 || len(dry["events"].([]any)) != 3 || events() != before {
		t.Errorf("%v, and %d events, %d before", dry, events(), before)
	}
	captured, header := a.keyed("POST", ada+"/holds/"+hold+"/capture", `{"amount":"50","to_account_id":"`+bob+`","metadata":{"k":"v"}}`, "capture", 200)
	if member(t, captured, "captured_amount") != "50.00" || member(t, captured, "released_amount") != "30.00" || header.Get("ETag") != `"5"` ||
		member(t, captured, "position") != fmt.Sprint(before+3) {
		t.Errorf("%s %v, %d events before", captured, header, before)
	}
	again, _ := a.keyed("POST", ada+"/holds/"+hold+"/release", "", "release", 422)
	if member(t, again, "code") != "hold-not-open" {
		t.Error(again)
	}
	if code := a.call("POST", ada+"/holds/"+uuid.NewString()+"/capture", "", 404)["code"]; code != "hold-not-found" {
		t.Error(code)
	}
	second, _ := a.keyed("POST", ada+"/holds", `{"amount":"10"}`, "second", 201)
	a.keyed("POST", ada+"/holds/"+member(t, second, "hold_id")+"/release", `{"reason":"gone"}`, "released", 200)

	// Of the transfer of 50, sent at before+2, a part goes back, in an atomic group; then more than is left does not.
	group := fmt.Sprintf(`[{"command":"reverse","position":%d,"amount":"20","idempotency_key":"r"},
{"command":"reverse","position":%d,"amount":"31"}]`, before+2, before+3)
	was := events()
	a.callList("/commands?atomic=true&dry_run=true", group, "424 422")
	a.callList("/commands?atomic=true", group, "424 422")
	if events() != was {
		t.Errorf("an atomic group that was refused has left %d events", events()-was)
	}
	a.callList("/commands?atomic=true", strings.Replace(group, `"31"`, `"30"`, 1), "424 422") // the key is that of the first group
	a.callList("/commands?atomic=true", strings.NewReplacer(`"31"`, `"30"`, `"r"`, `"s"`).Replace(group), "201 201")
	if code := a.call("POST", "/reversals", fmt.Sprintf(`{"position":%d}`, before+2), 422)["code"]; code != "already-reversed" {
		t.Error(code)
	}
	reversed, header := a.keyed("POST", "/reversals", `{"position":2,"amount":"99.99","reason":"twice"}`, "reverse", 201)
	if member(t, reversed, "amount") != "99.99" || member(t, reversed, "reversed_position") != "2" || member(t, reversed, "type") != "CreditReversed" ||
		"/accounts/"+member(t, reversed, "account_id") != ada {
		t.Errorf("%s %v", reversed, header)
	}
	if code := a.call("POST", "/reversals", `{"position":1000000}`, 404)["code"]; code != "movement-not-found" {
		t.Error(code)
	}
	changed, header := a.keyed("PATCH", ada, `{"owner":"Ada L.","overdraft_limit":"5","metadata":{"branch":null,"tier":"gold"}}`, "change", 200)
	if member(t, changed, "type") != "OwnerChanged" || header.Get("ETag") != `"`+member(t, changed, "version")+`"` {
		t.Errorf("%s %v", changed, header)
	}
	dry = a.call("PATCH", ada+"?dry_run=true", `{"metadata":null}`, 200)
	if text := fmt.Sprint(dry["events"]); !strings.Contains(text, "metadata:map[]") || strings.Contains(text, "gold") {
		t.Error(text)
	}
	if code := a.call("PATCH", ada, `{}`, 422)["code"]; code != "nothing-to-change" {
		t.Error(code)
	}
}

// callList sends an array of commands and compares the statuses of their results.
func (a api) callList(path, body, want string) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	var statuses []string
	for _, part := range strings.Split(string(text), `"status":`)[1:] {
		statuses = append(statuses, part[:3])
	}
	if got := strings.Join(statuses, " "); got != want {
		a.t.Errorf("%s: %s, want %s: %s", path, got, want, text)
	}
}
