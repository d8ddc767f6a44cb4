// Package oracle checks whether the invariants hold. It shares no code with the service: it reads the tables with its own
// SQL, folds the events by its own copy of the rules, and knows of the clients only what responses they got.
package oracle

import (
	"encoding/json"
	"errors"
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
	Owner        string            `json:"owner"`
	Currency     string            `json:"currency"`
	Limit        int64             `json:"overdraft_limit"`
	Amount       int64             `json:"amount"`
	Reference    string            `json:"reference"`
	Reason       string            `json:"reason"`
	TransferID   string            `json:"transfer_id"`
	To           string            `json:"to_account_id"`
	From         string            `json:"from_account_id"`
	Metadata     map[string]string `json:"metadata"`
	HoldID       string            `json:"hold_id"`
	Released     int64             `json:"released"`
	ExpiresAt    time.Time         `json:"expires_at"`
	ReversalID   string            `json:"reversal_id"`
	Reversed     int64             `json:"reversed_position"`
	Counterparty string            `json:"counterparty_account_id"`
	Forced       bool              `json:"forced"`
}

// labels returns metadata as a text that is the same for the same metadata, "" for none.
func labels(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	text, _ := json.Marshal(m) // in the order of keys
	return string(text)
}

// mark returns the idempotency key of the event's command, which the clients put into a field that the event keeps; "" if the
// event has none.
func (e *event) mark() string {
	switch e.kind {
	case "AccountCreated", "OwnerChanged":
		return e.payload.Owner
	case "MetadataChanged":
		return e.payload.Metadata["key"]
	case "AccountSuspended", "AccountReactivated", "AccountClosed", "HoldReleased", "CreditReversed", "DebitReversed":
		return e.payload.Reason
	}
	return e.payload.Reference
}

// sign returns 1 if money comes to the account, -1 if it leaves, and 0 otherwise.
func (e *event) sign() int64 {
	switch e.kind {
	case "MoneyDeposited", "TransferReceived", "DebitReversed":
		return 1
	case "MoneyWithdrawn", "TransferSent", "CreditReversed":
		return -1
	}
	return 0
}

// counterparty returns the other account of a transfer or of its reversal.
func (e *event) counterparty() string {
	return e.payload.To + e.payload.From + e.payload.Counterparty // one of them at most
}

func (e *event) isReversal() bool { return e.kind == "CreditReversed" || e.kind == "DebitReversed" }

// holdings is the state of an account by its events.
type holdings struct {
	owner, currency, status, metadata string
	limit, balance, held, come, gone  int64
	version, position, opened         int64
	openedAt, updatedAt, closedAt     time.Time
	captured                          *hold // the last one, which its movement follows
}

func (a *holdings) available() int64 { return a.balance + a.limit - a.held }

// hold is a hold by its events. Its status is the letter of the read model.
type hold struct {
	account, currency, reference, metadata, status string
	amount, captured                               int64
	expiresAt, placedAt, endedAt                   time.Time
	placedPosition, endedPosition, endedVersion    int64
	transferID                                     string
}

// movement is a movement of money, and the sum of what was reversed of it.
type movement struct {
	*event
	reversed int64
}

// purse is the sum of all accounts in a currency.
type purse struct{ accounts, deposited, withdrawn, sent, received, balance int64 }

// books are all accounts after a prefix of the log.
type books struct {
	accounts  map[string]*holdings
	purses    map[string]*purse
	holds     map[string]*hold
	movements map[int64]*movement
}

func newBooks() *books {
	return &books{
		accounts: make(map[string]*holdings), purses: make(map[string]*purse), holds: make(map[string]*hold),
		movements: make(map[int64]*movement),
	}
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
	switch {
	case e.payload.HoldID != "":
		return b.hold(a, e)
	case e.sign() == 0:
		return a.change(e)
	}
	err := errors.Join(a.allows(e), b.reverse(e))
	b.move(a, e)
	return err
}

func (b *books) open(a *holdings, e *event) error {
	if a != nil || e.version != 1 {
		return fmt.Errorf("account %s is opened at version %d, or twice", e.stream, e.version)
	}
	b.accounts[e.stream] = &holdings{
		owner: e.payload.Owner, currency: e.payload.Currency, status: "active", limit: e.payload.Limit, version: 1,
		position: e.position, opened: e.position, openedAt: e.recorded, updatedAt: e.recorded, metadata: labels(e.payload.Metadata),
	}
	if b.purses[e.payload.Currency] == nil {
		b.purses[e.payload.Currency] = &purse{}
	}
	b.purses[e.payload.Currency].accounts++
	return nil
}

// moves returns an error unless money may move on the account.
func (a *holdings) moves(e *event) error {
	switch {
	case a.status != "active":
		return fmt.Errorf("%s on account %s, which is %s", e.kind, e.stream, a.status)
	case e.payload.Amount <= 0 || e.payload.Currency != a.currency:
		return fmt.Errorf("%s of %d %s on an account in %s", e.kind, e.payload.Amount, e.payload.Currency, a.currency)
	}
	return nil
}

// allows returns an error unless the account allows a movement. The money of a hold that the event before has captured was
// reserved; only a reversal may be forced.
func (a *holdings) allows(e *event) error {
	if err := a.moves(e); err != nil {
		return err
	}
	short := e.sign() < 0 && e.payload.Amount > a.available()
	switch {
	case short && !a.captures(e) && !e.payload.Forced:
		return fmt.Errorf("%s of %d on account %s, which has %d available", e.kind, e.payload.Amount, e.stream, a.available())
	case e.payload.Forced && (!short || !e.isReversal()):
		return fmt.Errorf("%s of %d on account %s is forced, and %d is available", e.kind, e.payload.Amount, e.stream, a.available())
	}
	return nil
}

// captures reports whether a movement is that of the hold which the account's event before has captured.
func (a *holdings) captures(e *event) bool {
	return a.captured != nil && e.version == a.captured.endedVersion+1 && e.sign() < 0 && !e.isReversal() &&
		e.payload.Amount == a.captured.captured
}

// reversible is what each reversal reverses, in that order: what an account got or sent, from outside or another account.
var reversible = map[string][2]string{
	"CreditReversed": {"MoneyDeposited", "TransferReceived"},
	"DebitReversed":  {"MoneyWithdrawn", "TransferSent"},
}

// reverse counts a reversal on its movement. It returns an error unless the two fit.
func (b *books) reverse(e *event) error {
	if !e.isReversal() {
		b.movements[e.position] = &movement{event: e}
		return nil
	}
	m := b.movements[e.payload.Reversed]
	if m == nil {
		return fmt.Errorf("%s of position %d, where nothing moved", e.kind, e.payload.Reversed)
	}
	kind := reversible[e.kind][0]
	if e.payload.TransferID != "" {
		kind = reversible[e.kind][1]
	}
	if m.kind != kind || m.stream != e.stream || m.payload.TransferID != e.payload.TransferID ||
		m.counterparty() != e.payload.Counterparty {
		return fmt.Errorf("%s on account %s, of %s on account %s at position %d", e.kind, e.stream, m.kind, m.stream, m.position)
	}
	if m.reversed += e.payload.Amount; m.reversed > m.payload.Amount {
		return fmt.Errorf("reversals of %d, all together, of the %d at position %d", m.reversed, m.payload.Amount, m.position)
	}
	return nil
}

// move moves the money. What is reversed no longer counts as moved.
func (b *books) move(a *holdings, e *event) {
	p, amount := b.purses[a.currency], e.payload.Amount
	a.balance += e.sign() * amount
	p.balance += e.sign() * amount
	transfer := e.payload.TransferID != ""
	switch {
	case e.kind == "CreditReversed" && transfer:
		p.received -= amount
	case e.kind == "CreditReversed":
		p.deposited -= amount
	case e.kind == "DebitReversed" && transfer:
		p.sent -= amount
	case e.kind == "DebitReversed":
		p.withdrawn -= amount
	case e.kind == "MoneyDeposited":
		p.deposited += amount
	case e.kind == "MoneyWithdrawn":
		p.withdrawn += amount
	case e.kind == "TransferSent":
		p.sent += amount
	case e.kind == "TransferReceived":
		p.received += amount
	}
	switch e.kind {
	case "CreditReversed":
		a.come -= amount
	case "DebitReversed":
		a.gone -= amount
	case "MoneyDeposited", "TransferReceived":
		a.come += amount
	default:
		a.gone += amount
	}
	if e.kind == "TransferSent" && a.captures(e) {
		a.captured.transferID = e.payload.TransferID
	}
}

// hold applies an event of a hold.
func (b *books) hold(a *holdings, e *event) error {
	h, amount := b.holds[e.payload.HoldID], e.payload.Amount
	if e.kind == "HoldPlaced" {
		if h != nil {
			return fmt.Errorf("hold %s is placed a second time", e.payload.HoldID)
		}
		err := a.moves(e)
		if err == nil && amount > a.available() {
			err = fmt.Errorf("a hold of %d on account %s, which has %d available", amount, e.stream, a.available())
		}
		b.holds[e.payload.HoldID] = &hold{
			account: e.stream, currency: e.payload.Currency, reference: e.payload.Reference, metadata: labels(e.payload.Metadata), status: "o",
			amount: amount, expiresAt: e.payload.ExpiresAt, placedAt: e.recorded, placedPosition: e.position,
		}
		a.held += amount
		return err
	}
	if h == nil || h.status != "o" || h.account != e.stream {
		return fmt.Errorf("%s of hold %s, which is not an open one of account %s", e.kind, e.payload.HoldID, e.stream)
	}
	a.held -= h.amount
	h.endedAt, h.endedPosition, h.endedVersion = e.recorded, e.position, e.version
	var err error
	switch e.kind {
	case "HoldCaptured":
		h.status, h.captured = "c", amount
		a.captured = h
		err = a.moves(e)
	case "HoldReleased":
		h.status = "r"
	case "HoldExpired":
		h.status = "e"
		if h.expiresAt.IsZero() || e.recorded.Before(h.expiresAt) {
			err = fmt.Errorf("hold %s expires at %s, and its time is %s", e.payload.HoldID, e.recorded, h.expiresAt)
		}
	default:
		err = fmt.Errorf("an event of type %q", e.kind)
	}
	if amount+e.payload.Released != h.amount || e.payload.Released < 0 {
		err = fmt.Errorf("%s of %d, %d released, of a hold of %d", e.kind, amount, e.payload.Released, h.amount)
	}
	return err
}

// change applies an event that moves no money and is of no hold.
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
		if before != "closed" && a.balance == 0 && a.held == 0 {
			return nil
		}
	case "OwnerChanged":
		a.owner = e.payload.Owner
		if before != "closed" {
			return nil
		}
	case "MetadataChanged":
		a.metadata = labels(e.payload.Metadata)
		if before != "closed" {
			return nil
		}
	case "OverdraftLimitChanged":
		lowered := e.payload.Limit < a.limit
		a.limit = e.payload.Limit
		if before != "closed" && a.limit >= 0 && e.payload.Currency == a.currency && (!lowered || a.available() >= 0) {
			return nil
		}
	default:
		return fmt.Errorf("an event of type %q", e.kind)
	}
	return fmt.Errorf("%s on an account that is %s with a balance of %d, %d held and a limit of %d", e.kind, before, a.balance, a.held, a.limit)
}

func parsePayload(text []byte) (payload, error) {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("payload %s: %w", text, err)
	}
	return p, nil
}
