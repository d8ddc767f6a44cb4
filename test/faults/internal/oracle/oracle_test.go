package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// entry is an event of a small log.
type entry struct {
	stream, kind string
	version      int64
	payload      string
}

func logOf(t *testing.T, entries ...entry) []event {
	t.Helper()
	events := make([]event, len(entries))
	for i, e := range entries {
		p, err := parsePayload([]byte(e.payload))
		if err != nil {
			t.Fatal(err)
		}
		events[i] = event{
			position: int64(i) + 1, version: e.version, stream: e.stream, id: fmt.Sprint("event-", i), kind: e.kind, payload: p,
			recorded: time.Unix(int64(i), 0),
		}
	}
	return events
}

const opened = `{"owner":"o","currency":"EUR","overdraft_limit":5}`

func money(amount int64, reference string) string {
	return fmt.Sprintf(`{"amount":%d,"currency":"EUR","reference":%q}`, amount, reference)
}

func moved(amount int64, from, to string) string {
	text, _ := json.Marshal(map[string]any{"amount": amount, "currency": "EUR", "transfer_id": "t", "from_account_id": from, "to_account_id": to})
	return string(text)
}

// TestLogs gives the oracle a sound log, and others with what it must find in them.
func TestLogs(t *testing.T) {
	t.Parallel()
	sound := []entry{
		{"a", "AccountCreated", 1, opened},
		{"b", "AccountCreated", 1, opened},
		{"a", "MoneyDeposited", 2, money(10, "in")},
		{"a", "TransferSent", 3, moved(15, "", "b")},
		{"b", "TransferReceived", 2, moved(15, "a", "")},
		{"b", "MoneyWithdrawn", 3, money(15, "out")},
		{"b", "AccountClosed", 4, `{"reason":"closing"}`},
	}
	for name, test := range map[string]struct {
		change func(events []event) []event
		want   string // the invariant that is violated, empty for none
	}{
		"sound":           {func(e []event) []event { return e }, ""},
		"a gap":           {func(e []event) []event { e[6].position = 8; return e }, "I1"},
		"time goes back":  {func(e []event) []event { e[5].recorded = time.Unix(1, 0); return e }, "I1"},
		"an event twice":  {func(e []event) []event { e[5].id = e[4].id; return e }, "I2"},
		"a version twice": {func(e []event) []event { e[5].version = 2; return e }, "I3"},
		"overdrawn":       {func(e []event) []event { e[2].payload.Amount = 9; return e }, "I3"},
		"closed not at 0": {func(e []event) []event { e[5].payload.Amount = 14; return e }, "I3"},
		"one leg":         {func(e []event) []event { return e[:4] }, "I8"},
		"a cent lost":     {func(e []event) []event { e[4].payload.Amount = 14; return e }, "I8"},
		"never opened":    {func(e []event) []event { e[6].stream = "c"; return e }, "I3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &checker{}
			c.checkLog(test.change(logOf(t, sound...)))
			if test.want == "" && len(c.found) > 0 {
				t.Errorf("found %v", c.found)
			}
			if test.want != "" && !slices.ContainsFunc(c.found, func(v Violation) bool { return v.Invariant == test.want }) {
				t.Errorf("found %v, want %s", c.found, test.want)
			}
		})
	}
}

// TestCommands gives the oracle the outcomes of clients' commands and a log to compare them with.
func TestCommands(t *testing.T) {
	t.Parallel()
	events := logOf(t, entry{"a", "AccountCreated", 1, opened}, entry{"a", "MoneyDeposited", 2, money(1, "once")},
		entry{"a", "MoneyDeposited", 3, money(1, "twice")}, entry{"a", "MoneyDeposited", 4, money(1, "twice")})
	leg := Leg{Account: "a", EventID: "event-1", Position: 2, Version: 2}
	wrong := leg
	wrong.Position++
	for name, test := range map[string]struct {
		command Command
		ok      bool
	}{
		"as the receipt says": {Command{Key: "once", Fate: Applied, Events: 1, Legs: []Leg{leg}}, true},
		"another receipt":     {Command{Key: "once", Fate: Applied, Events: 1, Legs: []Leg{wrong}}, false},
		"lost":                {Command{Key: "never", Fate: Applied, Events: 1}, false},
		"twice":               {Command{Key: "twice", Fate: Applied, Events: 1}, false},
		"twice, not known":    {Command{Key: "twice", Fate: Unknown, Events: 1}, false},
		"refused":             {Command{Key: "never", Fate: Refused}, true},
		"refused and applied": {Command{Key: "once", Fate: Refused}, false},
		"not known":           {Command{Key: "never", Fate: Unknown, Events: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &checker{}
			c.checkCommands([]Command{test.command}, c.checkLog(events))
			if (len(c.found) == 0) != test.ok {
				t.Errorf("found %v", c.found)
			}
		})
	}
}

// TestLinear gives the checker histories of one account.
func TestLinear(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	open := Step{Kind: "open", Account: "a", Fate: Applied, Version: 1, From: at(0), To: at(1)}
	deposit := Step{Kind: "credit", Account: "a", Amount: 5, Fate: Applied, Version: 2, From: at(2), To: at(5)}
	withdraw := Step{Kind: "debit", Account: "a", Amount: 5, Fate: Applied, Version: 3, From: at(3), To: at(6)}
	refused := Step{Kind: "debit", Account: "a", Amount: 5, Fate: Refused, From: at(4), To: at(7)}
	read := func(version, balance, atLeast int64, from, to int) Step {
		return Step{Kind: "read", Account: "a", Fate: Applied, Version: version, Balance: balance, Available: balance, AtLeast: atLeast, From: at(from), To: at(to)}
	}
	unknown := Step{Kind: "credit", Account: "a", Amount: 7, Fate: Unknown, From: at(2), To: at(3)}
	later := refused
	later.From, later.To = at(3), at(4)
	for name, test := range map[string]struct {
		steps []Step
		ok    bool
	}{
		"in order":               {[]Step{open, deposit, withdraw, refused, read(3, 0, 3, 6, 8)}, true},
		"read in between":        {[]Step{open, deposit, withdraw, read(2, 5, 2, 2, 8)}, true},
		"read of the past":       {[]Step{open, deposit, withdraw, read(2, 5, 2, 7, 8)}, false},
		"read not far enough":    {[]Step{open, deposit, withdraw, read(2, 5, 3, 2, 8)}, false},
		"read of no state":       {[]Step{open, deposit, withdraw, read(2, 4, 2, 2, 8)}, false},
		"overdrawn":              {[]Step{open, {Kind: "debit", Account: "a", Amount: 1, Fate: Applied, Version: 2, From: at(2), To: at(3)}}, false},
		"refused without reason": {[]Step{open, deposit, {Kind: "debit", Account: "a", Amount: 5, Fate: Refused, From: at(6), To: at(7)}}, false},
		"unknown, never":         {[]Step{open, unknown, deposit, withdraw}, true},
		"unknown, and read":      {[]Step{open, unknown, read(2, 7, 0, 4, 5)}, true},
		"refused before":         {[]Step{open, deposit, later, withdraw}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := CheckLinear(test.steps, time.Minute); (len(found) == 0) != test.ok {
				t.Errorf("found %v", found)
			}
		})
	}
}
