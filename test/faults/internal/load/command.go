package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"passbook/test/faults/internal/oracle"
)

// command is one command of a client. It is retried, byte for byte, until it is settled.
type command struct {
	kind, key   string
	account, to string
	amount      int64
	currency    string
	limit       int64
	// hold and expires are of commands on holds; reversed is the movement that a reversal takes back. whole says that the command
	// gives no amount, forced that a reversal is.
	hold          string
	expires       time.Time
	reversed      movement
	whole, forced bool
	// initial says that an account is opened with a deposit; renames and sets say what a change changes beside the metadata.
	initial, renames, sets bool
	// atomically says that it is part of an atomic group: it is decided on the state that those before it would leave.
	atomically bool

	// The outcome.
	fate     oracle.Fate
	code     string
	receipt  receipt
	from, at time.Time // first sent, and settled
}

// receipt is the response to a command or to an item of a bulk: a receipt or a problem.
type receipt struct {
	oracle.Leg
	From   *oracle.Leg `json:"from"`
	To     *oracle.Leg `json:"to"`
	Code   string      `json:"code"`
	Status int         `json:"status"`
	Detail string      `json:"detail"`
	// Captured and Amount are of captures and reversals.
	Captured string `json:"captured_amount"`
	Amount   string `json:"amount"`
}

func (r *receipt) legs() []oracle.Leg {
	if r.From != nil && r.To != nil {
		return []oracle.Leg{*r.From, *r.To}
	}
	return []oracle.Leg{r.Leg}
}

// events returns how many events the command makes.
func (c *command) events() int {
	switch {
	case c.kind == "capture" && c.to != "":
		return 3
	case c.kind == "transfer", c.kind == "capture", c.kind == "reverse" && c.reversed.other != "", c.kind == "open" && c.initial:
		return 2
	case c.kind == "change":
		return len(c.changes())
	}
	return 1
}

func (c *command) path() string {
	switch c.kind {
	case "open":
		return "/accounts"
	case "deposit", "withdraw":
		return map[string]string{"deposit": "/deposits", "withdraw": "/withdrawals"}[c.kind]
	case "transfer":
		return "/transfers"
	case "reverse":
		return "/reversals"
	case "change":
		return "/accounts/" + c.account
	case "hold":
		return "/accounts/" + c.account + "/holds"
	case "capture", "release":
		return "/accounts/" + c.account + "/holds/" + c.hold + "/" + c.kind
	}
	return "/accounts/" + c.account + "/" + c.kind
}

// fields returns the fields of the body; they include the key, so that the oracle finds it in the event.
func (c *command) fields() map[string]any {
	switch c.kind {
	case "open":
		fields := map[string]any{"account_id": c.account, "owner": c.key, "currency": c.currency, "overdraft_limit": decimal(c.limit)}
		if c.initial {
			fields["initial_deposit"] = decimal(c.amount)
		}
		return fields
	case "deposit", "withdraw":
		return map[string]any{"account_id": c.account, "amount": decimal(c.amount), "reference": c.key}
	case "transfer":
		return map[string]any{"from_account_id": c.account, "to_account_id": c.to, "amount": decimal(c.amount), "reference": c.key}
	}
	return c.ledgerFields()
}

func (c *command) body() []byte { return mustJSON(c.fields()) }

// line returns the command as an item of a bulk.
func (c *command) line() []byte {
	fields := c.fields()
	fields["command"], fields["idempotency_key"], fields["account_id"] = c.kind, c.key, c.account
	switch c.kind {
	case "transfer", "reverse":
		delete(fields, "account_id")
	case "hold", "capture", "release":
		fields["hold_id"] = c.hold
	}
	return append(mustJSON(fields), '\n')
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings
	}
	return text
}

// settle stores the outcome in the command, and reports whether it is final.
func (c *command) settle(status int, r receipt) bool {
	switch {
	case status == 200 || status == 201:
		c.fate, c.receipt = oracle.Applied, r
	case status >= 500, status == 409 && r.Code == "idempotency-key-in-flight":
		return false
	default:
		c.fate, c.code = oracle.Refused, r.Code
	}
	c.at = time.Now()
	return true
}

// expected are the refusals that a client must expect; any other is a violation.
var expected = map[string]bool{
	"insufficient-funds": true, "account-suspended": true, "account-closed": true, "account-not-suspended": true,
	"balance-not-zero": true, "not-applied": true, "hold-not-open": true, "hold-expired": true, "holds-open": true, "too-many-holds": true,
	"expiry-in-past": true, "already-reversed": true, "amount-above-movement": true, "limit-below-debit": true,
}

// steps returns the command as operations on the accounts.
func (c *command) steps(client int) []oracle.Step {
	one := oracle.Step{
		Client: client, Account: c.account, Kind: c.kind, Amount: c.amount, Limit: c.limit, Fate: c.fate, Code: c.code,
		Version: c.receipt.Version, From: c.from, To: c.at,
	}
	if c.atomically && c.fate == oracle.Refused { // decided on a state that never existed
		return nil
	}
	switch c.kind {
	case "open":
		if c.initial && c.fate != oracle.Refused {
			credit := one
			credit.Kind = "credit"
			one.Version-- // of the receipt, which is that after the deposit
			return []oracle.Step{one, credit}
		}
	case "hold", "capture", "release", "reverse", "change":
		return c.ledgerSteps(one)
	case "deposit":
		one.Kind = "credit"
	case "withdraw":
		one.Kind = "debit"
	case "transfer":
		one.Kind = "debit"
		other := one
		other.Account, other.Kind = c.to, "credit"
		switch {
		case c.fate == oracle.Applied:
			one.Version, other.Version = c.receipt.From.Version, c.receipt.To.Version
		case c.fate == oracle.Refused && c.code == "insufficient-funds":
			return []oracle.Step{one}
		case c.fate == oracle.Refused: // because of either account
			return nil
		}
		return []oracle.Step{one, other}
	}
	return []oracle.Step{one}
}

// random returns the next command of a client.
func (l *Load) random(rng *rand.Rand, key string) *command {
	n := rng.IntN(len(l.accounts))
	a := l.accounts[n]
	c := &command{key: key, account: a.id, amount: 1 + rng.Int64N(3000)}
	if rng.IntN(3) == 0 && l.randomLedger(rng, c) {
		return c
	}
	switch p := rng.IntN(100); {
	case p < 34:
		c.kind = "deposit"
	case p < 64:
		c.kind = "withdraw"
	case p < 90:
		// To an account of the same currency: every second one is.
		c.kind, c.to = "transfer", l.accounts[(n+2+2*rng.IntN(len(l.accounts)/2-1))%len(l.accounts)].id
	case p < 92:
		c.kind = "suspend"
	case p < 97, p == 99 && a.id == l.Unread(): // that one must stay usable
		c.kind = "reactivate"
	case p < 99:
		c.kind, c.account, c.currency, c.initial = "open", newID(rng), a.currency, rng.IntN(2) == 0
	default:
		c.kind = "close"
	}
	return c
}

// newID returns a UUID of version 4.
func newID(rng *rand.Rand) string {
	a, b := rng.Uint64(), rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

// decimal formats minor units of a currency with two decimals.
func decimal(minor int64) string { return fmt.Sprintf("%d.%02d", minor/100, minor%100) }

// minor parses what decimal formats, with an optional sign.
func minor(text string) (int64, error) {
	digits, negative := strings.CutPrefix(strings.Replace(text, ".", "", 1), "-")
	var n int64
	if _, err := fmt.Sscan(strings.TrimLeft(digits, "0")+"", &n); err != nil && strings.Trim(digits, "0") != "" {
		return 0, fmt.Errorf("amount %q: %w", text, err)
	}
	if negative {
		n = -n
	}
	return n, nil
}

// parseLines reads the results of a bulk's items; ok is false if there are fewer than items.
func parseLines(text []byte, items int) (all []receipt, ok bool) {
	for line := range bytes.Lines(text) {
		var r receipt
		if err := json.Unmarshal(line, &r); err != nil || r.Status == 0 {
			return nil, false
		}
		all = append(all, r)
	}
	return all, len(all) == items
}
