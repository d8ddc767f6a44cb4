package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestFollowerTakesNoCommands sends every command to a follower, and reads.
func TestFollowerTakesNoCommands(t *testing.T) {
	t.Parallel()
	const primary = "https://bank.example"
	s := &service{primary: primary}
	a := serve(t, s)
	account := "/accounts/" + accountID.String()
	for _, command := range []string{
		"POST /accounts", "PATCH " + account, "POST /deposits", "POST /withdrawals", "POST /transfers", "POST /reversals", "POST /commands",
		"POST " + account + "/suspend", "POST " + account + "/reactivate", "POST " + account + "/close", "POST " + account + "/holds",
		"POST " + account + "/holds/" + holdID.String() + "/capture", "POST " + account + "/holds/" + holdID.String() + "/release",
		"POST /subjects/" + accountID.String() + "/erase",
	} {
		method, path, _ := strings.Cut(command, " ")
		for _, query := range []string{"", "?dry_run=true"} {
			got := a.send(method, path+query, `{"not":"read"}`)
			code, _ := got.problem(t)
			if got.status != http.StatusMisdirectedRequest || code != "not-primary" || got.json(t)["primary_url"] != primary {
				t.Errorf("%s%s: %d %s", command, query, got.status, got.text)
			}
		}
	}
	if len(s.requests) > 0 {
		t.Errorf("commands got through: %+v", s.requests)
	}
	for _, path := range []string{account, "/totals", "/projections", "/events"} {
		if got := a.send("GET", path, ""); got.status != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, got.status, got.text)
		}
	}
	if got := a.send("POST", "/projections/balances/pause", ""); got.status != http.StatusOK {
		t.Errorf("its projections are its own: %d %s", got.status, got.text)
	}
}
