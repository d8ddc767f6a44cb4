package account

import (
	"errors"
	"fmt"

	"passbook/internal/money"
)

// Status is where an account is in its life.
type Status uint8

// An account's life: Missing → Active ⇄ Suspended, and from either → Closed, which is final.
const (
	Missing Status = iota
	Active
	Suspended
	Closed
)

var statusNames = [...]string{"missing", "active", "suspended", "closed"}

// String is "missing", "active", "suspended" or "closed".
func (s Status) String() string {
	if int(s) >= len(statusNames) {
		return fmt.Sprintf("status(%d)", uint8(s))
	}
	return statusNames[s]
}

// State is what the events of one account add up to. The zero value is an account that was never opened. It is a
// plain value: copies share nothing that can change. The caller keeps its version.
type State struct {
	Status   Status
	Owner    string
	Currency money.Currency
	// Balance is in minor units of Currency; it is never below -OverdraftLimit.
	Balance int64
	// OverdraftLimit is in minor units of Currency, zero or more. Balance + OverdraftLimit always fits int64.
	OverdraftLimit int64
}

// Exists reports whether the account was ever opened.
func (s State) Exists() bool { return s.Status != Missing }

// Available returns how many minor units could be taken out: the balance and the overdraft limit.
func (s State) Available() int64 { return s.Balance + s.OverdraftLimit }

// ErrHistory says that an event cannot follow the state it is applied to: the log is damaged, or a rule of it was
// bypassed.
var ErrHistory = errors.New("impossible history")

// Evolve returns the state after an event. It does not judge: whether the event was allowed was decided when it was
// recorded. The error, which matches ErrHistory, is for an event that cannot have happened.
func Evolve(s State, e Event) (State, error) {
	if created, ok := e.(AccountCreated); ok {
		return s.created(created)
	}
	switch {
	case !s.Exists():
		return s, impossible(e, "the account was never opened")
	case s.Status == Closed:
		return s, impossible(e, "the account is closed")
	}
	switch e := e.(type) {
	case MoneyDeposited:
		return s.credited(e, e.Amount)
	case MoneyWithdrawn:
		return s.debited(e, e.Amount)
	case TransferSent:
		return s.debited(e, e.Amount)
	case TransferReceived:
		return s.credited(e, e.Amount)
	case AccountSuspended:
		s.Status = Suspended
	case AccountReactivated:
		s.Status = Active
	case AccountClosed:
		s.Status = Closed
	default:
		return s, fmt.Errorf("%w: event of Go type %T", ErrHistory, e)
	}
	return s, nil
}

func (s State) created(e AccountCreated) (State, error) {
	switch {
	case s.Exists():
		return s, impossible(e, "the account was opened before")
	case e.Currency.IsZero():
		return s, impossible(e, "it has no currency")
	case e.OverdraftLimit < 0:
		return s, impossible(e, "its overdraft limit is negative")
	}
	return State{Status: Active, Owner: e.Owner, Currency: e.Currency, OverdraftLimit: e.OverdraftLimit}, nil
}

func (s State) credited(e Event, amount money.Amount) (State, error) {
	if err := s.checkMovement(e, amount); err != nil {
		return s, err
	}
	balance, ok := s.afterCredit(amount.Minor())
	if !ok {
		return s, impossible(e, "the balance overflows")
	}
	s.Balance = balance
	return s, nil
}

func (s State) debited(e Event, amount money.Amount) (State, error) {
	if err := s.checkMovement(e, amount); err != nil {
		return s, err
	}
	balance, ok := money.SubMinor(s.Balance, amount.Minor())
	if !ok {
		return s, impossible(e, "the balance overflows")
	}
	s.Balance = balance
	return s, nil
}

func (s State) checkMovement(e Event, amount money.Amount) error {
	if amount.Currency() != s.Currency {
		return impossible(e, fmt.Sprintf("it is in %s and the account in %s", amount.Currency(), s.Currency))
	}
	if amount.Sign() <= 0 {
		return impossible(e, "its amount is not above zero")
	}
	return nil
}

// afterCredit returns the balance once minor units have come in. ok is false when the balance, or what is available
// with the overdraft limit on top of it, would not fit int64.
func (s State) afterCredit(minor int64) (balance int64, ok bool) {
	balance, ok = money.AddMinor(s.Balance, minor)
	if !ok {
		return 0, false
	}
	_, ok = money.AddMinor(balance, s.OverdraftLimit)
	return balance, ok
}

func impossible(e Event, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrHistory, e.EventType(), why)
}
