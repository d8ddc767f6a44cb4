package account

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// Status is the stage of an account's life.
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

// State is the fold of one account's events. The zero value is an account that was never opened. It is a plain value: copies
// share only what never changes. Its sums always fit (see Fits). It does not contain the account's version.
type State struct {
	Status   Status
	Owner    string
	Currency money.Currency
	// Balance is in minor units of Currency. It is below -OverdraftLimit only after a forced reversal.
	Balance int64
	// OverdraftLimit is in minor units of Currency, zero or more.
	OverdraftLimit int64
	// Held is the sum of Holds, in minor units of Currency.
	Held int64
	// Holds are the open holds, ordered by id. The slice is never modified.
	Holds    []Hold
	Metadata Metadata
	// SubjectID is that of AccountCreated.
	SubjectID uuid.UUID
	// Erased is set once the subject was erased. Owner and Metadata are empty then.
	Erased bool
}

// Hold is an open hold.
type Hold struct {
	ID uuid.UUID
	// Amount is in minor units of the account's currency.
	Amount int64
	// ExpiresAt is the zero time if the hold does not expire.
	ExpiresAt time.Time
}

// MaxHolds is how many holds may be open on an account. It is bounded because snapshots contain them.
const MaxHolds = 1000

// Exists reports whether the account was ever opened.
func (s State) Exists() bool { return s.Status != Missing }

// Available returns how many minor units could be taken out: the balance plus the overdraft limit, less what is held. It can be
// negative after a forced reversal.
func (s State) Available() int64 { return s.Balance + s.OverdraftLimit - s.Held }

// Hold returns the open hold with an id.
func (s State) Hold(id uuid.UUID) (Hold, bool) {
	n, found := s.findHold(id)
	if !found {
		return Hold{}, false
	}
	return s.Holds[n], true
}

func (s State) findHold(id uuid.UUID) (int, bool) {
	return slices.BinarySearchFunc(s.Holds, id, func(h Hold, id uuid.UUID) int { return bytes.Compare(h.ID[:], id[:]) })
}

// ErrHistory means that an event cannot follow the state it is applied to: the log is damaged or was written past the rules.
var ErrHistory = errors.New("impossible history")

// Evolve returns the state after an event. It does not apply the rules of commands: Decide did that before the event was
// recorded. The error, which matches ErrHistory, means that the event cannot have happened.
func Evolve(s State, e Event) (State, error) {
	if created, ok := e.(AccountCreated); ok {
		return s.created(created)
	}
	if erased, ok := e.(SubjectErased); ok && s.Exists() {
		return s.erased(erased)
	}
	switch {
	case !s.Exists():
		return s, impossible(e, "the account was never opened")
	case s.Status == Closed:
		return s, impossible(e, "the account is closed")
	}
	switch event := e.(type) { // e is passed on, because converting event back to an interface would allocate
	case MoneyDeposited:
		return s.credited(e, event.Amount)
	case MoneyWithdrawn:
		return s.debited(e, event.Amount)
	case TransferSent:
		return s.debited(e, event.Amount)
	case TransferReceived:
		return s.credited(e, event.Amount)
	case AccountSuspended:
		s.Status = Suspended
	case AccountReactivated:
		s.Status = Active
	case AccountClosed:
		if len(s.Holds) > 0 {
			return s, impossible(e, "the account has open holds")
		}
		s.Status = Closed
	case OwnerChanged:
		s.Owner = event.Owner
	case OverdraftLimitChanged:
		return s.limited(event)
	case MetadataChanged:
		s.Metadata = event.Metadata
	case HoldPlaced:
		return s.held(event)
	case HoldCaptured:
		return s.unheld(e, event.HoldID, event.Amount, event.Released)
	case HoldReleased:
		return s.unheld(e, event.HoldID, event.Amount, 0)
	case HoldExpired:
		return s.unheld(e, event.HoldID, event.Amount, 0)
	case CreditReversed:
		return s.debited(e, event.Amount)
	case DebitReversed:
		return s.credited(e, event.Amount)
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
	return State{
		Status: Active, Owner: e.Owner, Currency: e.Currency, OverdraftLimit: e.OverdraftLimit, Metadata: e.Metadata,
		SubjectID: e.SubjectID,
	}, nil
}

func (s State) erased(e SubjectErased) (State, error) {
	if s.Erased {
		return s, impossible(e, "the subject was erased already")
	}
	s.Owner, s.Metadata, s.Erased = "", Metadata{}, true
	return s, nil
}

func (s State) limited(e OverdraftLimitChanged) (State, error) {
	switch {
	case e.Currency != s.Currency:
		return s, impossible(e, fmt.Sprintf("it is in %s and the account in %s", e.Currency, s.Currency))
	case e.OverdraftLimit < 0:
		return s, impossible(e, "its overdraft limit is negative")
	}
	after := s
	after.OverdraftLimit = e.OverdraftLimit
	if !after.Fits() {
		return s, impossible(e, "the balance overflows")
	}
	return after, nil
}

func (s State) held(e HoldPlaced) (State, error) {
	if err := s.checkMovement(e, e.Amount); err != nil {
		return s, err
	}
	n, found := s.findHold(e.HoldID)
	if found {
		return s, impossible(e, "the hold is open already")
	}
	after := s
	var ok bool
	if after.Held, ok = money.AddMinor(s.Held, e.Amount.Minor()); !ok || !after.Fits() {
		return s, impossible(e, "the sum of the holds overflows")
	}
	// Clone: other copies of the state share the slice.
	after.Holds = slices.Insert(slices.Clone(s.Holds), n, Hold{ID: e.HoldID, Amount: e.Amount.Minor(), ExpiresAt: e.ExpiresAt})
	return after, nil
}

// unheld ends a hold, whose amount must be amount plus released minor units.
func (s State) unheld(e Event, id uuid.UUID, amount money.Amount, released int64) (State, error) {
	if err := s.checkMovement(e, amount); err != nil {
		return s, err
	}
	n, found := s.findHold(id)
	if !found {
		return s, impossible(e, "the hold is not open")
	}
	if sum, ok := money.AddMinor(amount.Minor(), released); !ok || released < 0 || sum != s.Holds[n].Amount {
		return s, impossible(e, "its amount is not that of the hold")
	}
	s.Held -= s.Holds[n].Amount
	s.Holds = slices.Delete(slices.Clone(s.Holds), n, n+1)
	if len(s.Holds) == 0 {
		s.Holds = nil
	}
	return s, nil
}

func (s State) credited(e Event, amount money.Amount) (State, error) {
	if err := s.checkMovement(e, amount); err != nil {
		return s, err
	}
	after, ok := s.afterCredit(amount.Minor())
	if !ok {
		return s, impossible(e, "the balance overflows")
	}
	return after, nil
}

func (s State) debited(e Event, amount money.Amount) (State, error) {
	if err := s.checkMovement(e, amount); err != nil {
		return s, err
	}
	after, ok := s.afterDebit(amount.Minor())
	if !ok {
		return s, impossible(e, "the balance overflows")
	}
	return after, nil
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

// afterCredit returns the state after minor units have come in; ok is false if they do not fit.
func (s State) afterCredit(minor int64) (_ State, ok bool) {
	if s.Balance, ok = money.AddMinor(s.Balance, minor); !ok {
		return s, false
	}
	return s, s.Fits()
}

// afterDebit returns the state after minor units have gone out; ok is false if they do not fit.
func (s State) afterDebit(minor int64) (_ State, ok bool) {
	if s.Balance, ok = money.SubMinor(s.Balance, minor); !ok {
		return s, false
	}
	return s, s.Fits()
}

// Fits reports whether the sums that the rules compute fit int64: the balance plus the overdraft limit, and the debt if all holds
// were captured. Neither a capture nor Available can then overflow.
func (s State) Fits() bool {
	_, credit := money.AddMinor(s.Balance, s.OverdraftLimit)
	_, debit := money.SubMinor(s.Held, s.Balance)
	return credit && debit
}

func impossible(e Event, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrHistory, e.EventType(), why)
}
