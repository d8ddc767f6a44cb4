package oracle

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func held(kind, id string, amount int64, more string) string {
	return fmt.Sprintf(`{"hold_id":%q,"amount":%d,"currency":"EUR"%s}`, id, amount, more)
}

func reversed(position, amount int64, more string) string {
	return fmt.Sprintf(`{"reversal_id":"r%d","reversed_position":%d,"amount":%d,"currency":"EUR"%s}`, position, position, amount, more)
}

// ledgerLog is a sound log with holds, reversals and changes. Event n is recorded at second n-1.
func ledgerLog(t *testing.T) []event {
	t.Helper()
	return logOf(t, []entry{
		{"a", "AccountCreated", 1, `{"owner":"open","currency":"EUR","overdraft_limit":5,"metadata":{"k":"v"}}`}, // 1
		{"a", "MoneyDeposited", 2, money(100, "")},
		{"b", "AccountCreated", 1, opened},
		{"a", "HoldPlaced", 3, held("", "h1", 60, `,"reference":"place"`)},
		{"a", "HoldPlaced", 4, held("", "h2", 30, `,"expires_at":"1970-01-01T00:00:06Z"`)}, // 5
		{"a", "HoldPlaced", 5, held("", "h3", 15, "")},
		{"a", "HoldExpired", 6, held("", "h2", 30, "")},
		{"a", "HoldReleased", 7, held("", "h3", 15, `,"reason":"release"`)},
		{"a", "MoneyWithdrawn", 8, money(45, "take")},
		{"a", "HoldCaptured", 9, held("", "h1", 50, `,"released":10`)}, // 10
		{"a", "TransferSent", 10, `{"amount":50,"currency":"EUR","transfer_id":"t","to_account_id":"b","reference":"capture"}`},
		{"b", "TransferReceived", 2, `{"amount":50,"currency":"EUR","transfer_id":"t","from_account_id":"a","reference":"capture"}`},
		{"a", "DebitReversed", 11, reversed(9, 20, "")},
		{"a", "DebitReversed", 12, reversed(9, 25, "")},
		{"b", "CreditReversed", 3, `{"reversal_id":"r","reversed_position":12,"amount":40,"currency":"EUR","transfer_id":"t","counterparty_account_id":"a","reason":"back"}`}, // 15
		{"a", "DebitReversed", 13, `{"reversal_id":"r","reversed_position":11,"amount":40,"currency":"EUR","transfer_id":"t","counterparty_account_id":"b","reason":"back"}`},
		{"b", "MoneyWithdrawn", 4, money(15, "spend")},
		{"b", "MoneyDeposited", 5, money(8, "in")},
		{"b", "MoneyWithdrawn", 6, money(8, "out")},
		{"b", "CreditReversed", 7, reversed(18, 8, `,"forced":true`)}, // 20
		{"b", "OwnerChanged", 8, `{"owner":"change"}`},
		{"b", "OverdraftLimitChanged", 9, `{"overdraft_limit":13,"currency":"EUR"}`},
		{"b", "MetadataChanged", 10, `{"metadata":{"key":"change"}}`},
	}...)
}

// TestLedger changes a sound log at one place each time.
func TestLedger(t *testing.T) {
	t.Parallel()
	amount := func(position int, n int64) func(events []event) {
		return func(events []event) { events[position-1].payload.Amount = n }
	}
	for name, test := range map[string]struct {
		change func(events []event)
		want   string // the invariant that is violated, empty for none
	}{
		"sound":                       {func([]event) {}, ""},
		"a hold of more":              {amount(6, 16), "I3"},
		"a hold on a suspended one":   {func(e []event) { e[2].kind, e[2].stream, e[2].version = "AccountSuspended", "a", 3 }, "I3"},
		"a hold placed twice":         {func(e []event) { e[5].payload.HoldID = "h1" }, "I3"},
		"a hold ends twice":           {func(e []event) { e[7].payload.HoldID = "h2"; e[7].payload.Amount = 30 }, "I3"},
		"a hold of another account":   {func(e []event) { e[7].stream = "b" }, "I3"},
		"a part of a hold is lost":    {func(e []event) { e[9].payload.Released = 9 }, "I3"},
		"expires too early":           {func(e []event) { e[4].payload.ExpiresAt = e[4].payload.ExpiresAt.Add(time.Microsecond) }, "I3"},
		"expires without a time":      {func(e []event) { e[4].payload.ExpiresAt = time.Time{} }, "I3"},
		"captured, not moved":         {func(e []event) { e[10].kind = "AccountSuspended" }, "I8"},
		"captured and more moved":     {func(e []event) { e[10].payload.Amount, e[11].payload.Amount = 51, 51 }, "I8"},
		"a withdrawal of what's held": {amount(9, 46), "I3"},
		"reversed twice":              {amount(14, 26), "I3"},
		"reversed on another account": {func(e []event) { e[12].payload.Reversed = 12 }, "I3"},
		"reversed, but not moved":     {func(e []event) { e[12].payload.Reversed = 8 }, "I3"},
		"one side of a reversal":      {func(e []event) { e[15].payload.ReversalID = "other" }, "I8"},
		"a reversal loses a cent":     {amount(16, 39), "I8"},
		"reversed from another":       {func(e []event) { e[14].payload.Counterparty = "b" }, "I8"},
		"below the limit, not forced": {func(e []event) { e[19].payload.Forced = false }, "I3"},
		"forced for no reason":        {func(e []event) { e[14].payload.Forced = true }, "I3"},
		"a limit below the debit":     {func(e []event) { e[21].payload.Limit = 4 }, "I3"},
		"closed with a hold": {func(e []event) {
			e[1].payload.Amount, e[3].payload.Amount, e[4].kind, e[4].payload.HoldID = 0, 5, "AccountClosed", ""
		}, "I3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := ledgerLog(t)
			test.change(events)
			c := &checker{}
			c.checkLog(events)
			if test.want == "" && len(c.found) > 0 {
				t.Errorf("found %v", c.found)
			}
			if test.want != "" && !slices.ContainsFunc(c.found, func(v Violation) bool { return v.Invariant == test.want }) {
				t.Errorf("found %v, want %s", c.found, test.want)
			}
		})
	}
}

// TestLedgerMarks finds the events of commands that make several.
func TestLedgerMarks(t *testing.T) {
	t.Parallel()
	c := &checker{}
	byMark := c.checkLog(ledgerLog(t))
	for mark, want := range map[string][]int64{
		"open": {1, 2}, "place": {4}, "release": {8}, "capture": {10, 11, 12}, "back": {15, 16}, "change": {21, 22, 23},
	} {
		var got []int64
		for _, e := range byMark[mark] {
			got = append(got, e.position)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: positions %v, want %v", mark, got, want)
		}
	}
	receipt := Leg{Account: "a", EventID: "event-9", Position: 12, Version: 10}
	c.checkCommands([]Command{{Key: "capture", Fate: Applied, Events: 3, Legs: []Leg{receipt}}}, byMark)
	if len(c.found) > 0 {
		t.Errorf("found %v", c.found)
	}
	receipt.Version = 9
	c.checkCommands([]Command{{Key: "capture", Fate: Applied, Events: 3, Legs: []Leg{receipt}}}, byMark)
	if len(c.found) != 1 {
		t.Errorf("a receipt with another version: found %v", c.found)
	}
}

// TestLedgerFold compares the fold of the small log with what a reader of it would say.
func TestLedgerFold(t *testing.T) {
	t.Parallel()
	f := newFold(ledgerLog(t), 23, nil)
	a, b := f.accounts["a"], f.accounts["b"]
	if a.balance != 90 || a.held != 0 || a.come != 100 || a.gone != 10 || a.metadata != `{"k":"v"}` {
		t.Errorf("a is %+v", *a)
	}
	if b.balance != -13 || b.come != 10 || b.gone != 23 || b.limit != 13 || b.owner != "change" || b.metadata != `{"key":"change"}` {
		t.Errorf("b is %+v", *b)
	}
	if got, want := *f.purses["EUR"], (purse{2, 100, 23, 10, 10, 77}); got != want {
		t.Errorf("totals are %+v, want %+v", got, want)
	}
	for id, want := range map[string]hold{"h1": {status: "c", captured: 50, transferID: "t"}, "h2": {status: "e"}, "h3": {status: "r"}} {
		if h := f.holds[id]; h.status != want.status || h.captured != want.captured || h.transferID != want.transferID {
			t.Errorf("%s is %+v", id, *h)
		}
	}
	if got := newFold(ledgerLog(t), 6, nil).accounts["a"]; got.held != 105 || got.available() != 0 {
		t.Errorf("with all holds open a is %+v", *got)
	}
}

// TestLinearLedger gives the checker histories of holds, reversals and changes.
func TestLinearLedger(t *testing.T) {
	t.Parallel()
	// step makes a step that begins and ends in its own second.
	step := func(n int, s Step) Step {
		s.Account, s.From, s.To = "a", time.Unix(int64(2*n), 0), time.Unix(int64(2*n+1), 0)
		return s
	}
	applied := func(n int, s Step) Step { s.Fate, s.Version = Applied, int64(n); return step(n, s) }
	refused := func(n int, s Step) Step { s.Fate = Refused; return step(n, s) }
	open := []Step{
		applied(1, Step{Kind: "open", Limit: 10}), applied(2, Step{Kind: "credit", Amount: 90}),
		applied(3, Step{Kind: "hold", Hold: "h", Amount: 60}),
	}
	after := func(more ...Step) []Step { return append(slices.Clone(open), more...) }
	read := func(n int, version, balance, heldNow, available int64) Step {
		return step(n, Step{Kind: "read", Fate: Applied, Version: version, Balance: balance, Held: heldNow, Available: available})
	}
	capture, release, expire := Step{Kind: "capture", Hold: "h", Amount: 50}, Step{Kind: "release", Hold: "h"}, Step{Kind: "expire", Hold: "h"}
	back := Step{Kind: "take-back", Movement: "2", Moved: 90, Amount: 30}
	whole := back
	whole.Whole = true
	forced := Step{Kind: "take-back", Movement: "2", Moved: 90, Amount: 90, Forced: true}
	for name, test := range map[string]struct {
		steps []Step
		ok    bool
	}{
		"held":                       {after(read(4, 3, 90, 60, 40)), true},
		"held, but all available":    {after(read(4, 3, 90, 60, 100)), false},
		"not held":                   {after(read(4, 3, 90, 0, 100)), false},
		"a hold of too much":         {after(applied(4, Step{Kind: "hold", Hold: "i", Amount: 41})), false},
		"a debit of what is held":    {after(applied(4, Step{Kind: "debit", Amount: 41})), false},
		"refused what is available":  {after(refused(4, Step{Kind: "hold", Hold: "i", Amount: 40})), false},
		"captured":                   {after(applied(4, capture), applied(5, Step{Kind: "debit", Amount: 50, Forced: true}), read(6, 5, 40, 0, 50)), true},
		"captured twice":             {after(applied(4, capture), applied(5, capture)), false},
		"captured above the hold":    {after(applied(4, Step{Kind: "capture", Hold: "h", Amount: 61})), false},
		"released after it expired":  {after(applied(4, expire), applied(5, release)), false},
		"refused after it expired":   {after(applied(4, expire), refused(5, release)), true},
		"refused while it is open":   {after(refused(4, release), applied(5, release)), false},
		"closed with a hold":         {after(applied(4, Step{Kind: "debit", Amount: 40}), applied(5, Step{Kind: "close"})), false},
		"reversed":                   {after(applied(4, back), refused(5, back), applied(6-1, release)), true},
		"more than is available":     {after(applied(4, Step{Kind: "take-back", Movement: "2", Moved: 90, Amount: 41})), false},
		"forced":                     {after(applied(4, forced), refused(5, Step{Kind: "debit", Amount: 1}), read(6, 4, 0, 60, -50)), true},
		"reversed twice":             {after(applied(4, forced), applied(5, Step{Kind: "take-back", Movement: "2", Moved: 90, Amount: 1, Forced: true})), false},
		"the rest is not the whole":  {after(applied(4, whole)), false},
		"given back":                 {after(applied(4, Step{Kind: "debit", Amount: 20}), applied(5, Step{Kind: "give-back", Movement: "4", Moved: 20, Amount: 20, Whole: true}), read(6, 5, 90, 60, 40)), true},
		"a limit below what is held": {after(applied(4, release), applied(5, Step{Kind: "hold", Hold: "i", Amount: 95}), applied(6, Step{Kind: "change", SetsLimit: true, Limit: 4})), false},
		"a limit":                    {after(applied(4, Step{Kind: "change", SetsLimit: true, Limit: 0}), read(5, 4, 90, 60, 30)), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := CheckLinear(test.steps, time.Minute); (len(found) == 0) != test.ok {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	all := tally("").with("a", 1).with("b", -2).with("aa", 3).with("b", 4)
	for id, want := range map[string]int64{"a": 1, "b": 4, "aa": 3} {
		if n, ok := all.find(id); n != want || !ok {
			t.Errorf("%s is %d, %v", id, n, ok)
		}
	}
	left := all.without("a").without("aa")
	if _, ok := left.find("a"); ok || left != tally("").with("b", 4) || left.without("b") != "" {
		t.Errorf("left %q", left)
	}
}
