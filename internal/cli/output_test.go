package cli

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"passbook/client"
)

func TestBarOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := &bar{out: &out}
	for _, r := range []client.Replay{
		{Projection: "balances", State: "running", Total: 1000},
		{Projection: "balances", State: "running", Processed: 500, Total: 1000},
		{Projection: "balances", State: "running", Processed: 1000, Total: 1000},
		{Projection: "balances", State: "completed", Processed: 1000, Total: 1000, Rate: 7},
	} {
		b.show(&r)
	}
	for _, want := range []string{"balances", "50%", "events", "100%", "completed: 1000 of 1000 events, 7/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

// TestAdviceSpeaksOfCommands takes what the server may say about routes from its source, and expects the command line to say it in
// commands.
func TestAdviceSpeaksOfCommands(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../httpapi/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	route := regexp.MustCompile(`(GET|POST|PUT|PATCH|DELETE) /|Idempotency-Key|If-Match`)
	details := 0
	for _, text := range regexp.MustCompile(`"[^"]*"`).FindAllString(string(source), -1) {
		if !route.MatchString(text) {
			continue
		}
		details++
		if said := advice(&client.Problem{Detail: text, Code: "x"}); route.MatchString(said) || !strings.Contains(said, "server ") && !strings.Contains(said, " --") {
			t.Errorf("%s becomes %s", text, said)
		}
	}
	if details < 10 {
		t.Errorf("only %d texts about routes were found", details)
	}
	const want = "No account has this id; check it, or open one with server accounts open. (account-not-found)\nserver accounts finds accounts by the owner's name"
	got := advice(&client.Problem{Status: 404, Code: "account-not-found", Detail: "No account has this id; check it, or open the account with POST /accounts."})
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStatusShowsErrors(t *testing.T) {
	t.Parallel()
	reason, at := "no such account", int64(7)
	var out bytes.Buffer
	err := printStatus(&standing{Projections: []client.Projection{{
		ID: "balances", State: "halted", Position: 6, Head: 10, Lag: 4, LagSeconds: 1.25, Generation: 1, Error: &reason, ErrorPosition: &at,
		Replay: &client.Replay{State: "running", Processed: 999, Total: 1000},
	}}}, &out)
	for _, want := range []string{"halted", "4 (1.2 s)", "99% of 1000", "balances failed at the event at position 7: no such account"} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s, %v", want, &out, err)
		}
	}
}

func TestStatusShowsParkedAccounts(t *testing.T) {
	t.Parallel()
	reason := "no room"
	failures := make([]client.Failure, shownFailures+2)
	for i := range failures {
		failures[i] = client.Failure{Position: int64(i + 7), Type: "MoneyDeposited", Attempts: 4, Waiting: 3, Error: &reason}
	}
	failures[1].Error = nil
	var out bytes.Buffer
	err := printStatus(&standing{
		Projections: []client.Projection{{ID: "balances", State: "running", Parked: 7}},
		Failures:    map[string][]client.Failure{"balances": failures},
	}, &out)
	for _, want := range []string{"balances: 7 parked", "at position 7, MoneyDeposited, tried 4 times, 3 waiting: no room", "failures/7/retry", "waits for the events before it", "and 2 more"} {
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s, %v", want, &out, err)
		}
	}
}
