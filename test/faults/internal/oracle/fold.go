// Package oracle checks whether the invariants hold. It shares no code with the service: it reads the tables with its own
// SQL, folds the events by its own copy of the rules, and knows of the clients only what responses they got.
package oracle

import (
	"encoding/json"
	"fmt"
	"time"
)

// Violation is an invariant that does not hold.
type Violation struct {
	// Invariant is its number in the design, such as I1.
	Invariant string
	Detail    string
}

func (v Violation) String() string { return v.Invariant + ": " + v.Detail }

// event is a row of the log.
type event struct {
	position, version int64
	stream, id        string
	kind              string
	payload           payload
	recorded          time.Time
}

// payload has the fields of all kinds of events.
type payload struct {
	Owner      string `json:"owner"`
	Currency   string `json:"currency"`
	Limit      int64  `json:"overdraft_limit"`
	Amount     int64  `json:"amount"`
	Reference  string `json:"reference"`
	Reason     string `json:"reason"`
	TransferID string `json:"transfer_id"`
	To         string `json:"to_account_id"`
	From       string `json:"from_account_id"`
}

// mark returns the idempotency key of the event's command, which the clients put into a field that the event keeps.
func (e *event) mark() string {
	switch e.kind {
	case "AccountCreated":
		return e.payload.Owner
	case "AccountSuspended", "AccountReactivated", "AccountClosed":
		return e.payload.Reason
	}
	return e.payload.Reference
}

// sign returns 1 if money comes to the account, -1 if it leaves, and 0 otherwise.
func (e *event) sign() int64 {
	switch e.kind {
	case "MoneyDeposited", "TransferReceived":
		return 1
	case "MoneyWithdrawn", "TransferSent":
		return -1
	}
	return 0
}

// holdings is the state of an account by its events.
type holdings struct {
	owner, currency, status       string
	limit, balance, come, gone    int64
	version, position, opened     int64
	openedAt, updatedAt, closedAt time.Time
}

// purse is the sum of all accounts in a currency.
type purse struct{ accounts, deposited, withdrawn, sent, received, balance int64 }

// books are all accounts after a prefix of the log.
type books struct {
	accounts map[string]*holdings
	purses   map[string]*purse
}

func newBooks() *books {
	return &books{accounts: make(map[string]*holdings), purses: make(map[string]*purse)}
}

// apply applies an event to the books, and returns an error that names the rule it breaks.
func (b *books) apply(e *event) error {
	a := b.accounts[e.stream]
	if e.kind == "AccountCreated" {
		return b.open(a, e)
	}
	switch {
	case a == nil:
		return fmt.Errorf("%s on an account that was never opened", e.kind)
	case e.version != a.version+1:
		return fmt.Errorf("version %d follows on %d of account %s", e.version, a.version, e.stream)
	}
	a.version, a.position, a.updatedAt = e.version, e.position, e.recorded
	if e.sign() == 0 {
		return a.change(e)
	}
	before := a.status
	a.balance += e.sign() * e.payload.Amount
	if e.sign() > 0 {
		a.come += e.payload.Amount
	} else {
		a.gone += e.payload.Amount
	}
	b.move(a.currency, e)
	switch {
	case before != "active":
		return fmt.Errorf("%s on account %s, which is %s", e.kind, e.stream, before)
	case e.payload.Amount <= 0 || e.payload.Currency != a.currency:
		return fmt.Errorf("%s of %d %s on an account in %s", e.kind, e.payload.Amount, e.payload.Currency, a.currency)
	case a.balance < -a.limit:
		return fmt.Errorf("%s leaves account %s at %d, below its limit of %d", e.kind, e.stream, a.balance, -a.limit)
	}
	return nil
}

func (b *books) open(a *holdings, e *event) error {
	if a != nil || e.version != 1 {
		return fmt.Errorf("account %s is opened at version %d, or twice", e.stream, e.version)
	}
	b.accounts[e.stream] = &holdings{
		owner: e.payload.Owner, currency: e.payload.Currency, status: "active", limit: e.payload.Limit, version: 1,
		position: e.position, opened: e.position, openedAt: e.recorded, updatedAt: e.recorded,
	}
	if b.purses[e.payload.Currency] == nil {
		b.purses[e.payload.Currency] = &purse{}
	}
	b.purses[e.payload.Currency].accounts++
	return nil
}

func (b *books) move(currency string, e *event) {
	p := b.purses[currency]
	p.balance += e.sign() * e.payload.Amount
	switch e.kind {
	case "MoneyDeposited":
		p.deposited += e.payload.Amount
	case "MoneyWithdrawn":
		p.withdrawn += e.payload.Amount
	case "TransferSent":
		p.sent += e.payload.Amount
	case "TransferReceived":
		p.received += e.payload.Amount
	}
}

// change applies an event that does not move money.
func (a *holdings) change(e *event) error {
	before := a.status
	switch e.kind {
	case "AccountSuspended":
		a.status = "suspended"
		if before == "active" {
			return nil
		}
	case "AccountReactivated":
		a.status = "active"
		if before == "suspended" {
			return nil
		}
	case "AccountClosed":
		a.status, a.closedAt = "closed", e.recorded
		if before != "closed" && a.balance == 0 {
			return nil
		}
	default:
		return fmt.Errorf("an event of type %q", e.kind)
	}
	return fmt.Errorf("%s on an account that is %s with a balance of %d", e.kind, before, a.balance)
}

func parsePayload(text []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("payload %s: %w", text, err)
	}
	return p, nil
}
