// Package account is the domain: commands, events, and the rules that decide which events a command makes. Decide turns the
// states of accounts and a command into events; Evolve turns a state and an event into the next state. The package does no
// I/O, reads no clock and knows no encoding; callers pass in ids and times.
package account

import (
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// Command is what a caller wants done: one of the structs of this file, as a value. A Transfer, a CaptureHold to another account
// and a Reverse of a transfer concern two accounts, every other command one.
type Command interface {
	// Name is the command's name on the wire, such as "deposit".
	Name() string
}

// Open opens an account.
type Open struct {
	// Owner has 1 to MaxOwnerLen characters, once trimmed of white space.
	Owner    string
	Currency money.Currency
	// OverdraftLimit is how far below zero the balance may go, in units of Currency; nil means 0.
	OverdraftLimit *money.Decimal
	// InitialDeposit is deposited in the same append; nil means no deposit.
	InitialDeposit *money.Decimal
	Metadata       Metadata
	// SubjectID is the person whose account it is; uuid.Nil means that the account is its own subject.
	SubjectID uuid.UUID
}

// Deposit puts money into an account.
type Deposit struct {
	Amount money.Decimal
	// Currency must be the account's; zero means not given.
	Currency money.Currency
	// Reference is the caller's own text, at most MaxTextLen characters; it may be empty.
	Reference string
	Metadata  Metadata
}

// Withdraw takes money out of an account. Its fields mean the same as Deposit's.
type Withdraw struct {
	Amount    money.Decimal
	Currency  money.Currency
	Reference string
	Metadata  Metadata
}

// Suspend stops money from moving until the account is reactivated. Reason may be empty.
type Suspend struct{ Reason string }

// Reactivate ends a suspension. Reason may be empty.
type Reactivate struct{ Reason string }

// Close closes an account, which is final. Reason may be empty.
type Close struct{ Reason string }

// Transfer moves money to another account of the same currency.
type Transfer struct {
	// TransferID names the transfer in both its events. Package command generates one when it is nil.
	TransferID uuid.UUID
	// To is the receiving account. Decide takes the sending one beside the command.
	To        uuid.UUID
	Amount    money.Decimal
	Currency  money.Currency
	Reference string
	Metadata  Metadata
}

// Change changes an account's owner, overdraft limit or metadata. A nil field changes nothing; at least one must be set.
type Change struct {
	Owner *string
	// OverdraftLimit is in units of the account's currency.
	OverdraftLimit *money.Decimal
	// Metadata is merged into the account's metadata (RFC 7396): a nil value deletes its key.
	Metadata map[string]*string
	// ClearMetadata deletes all keys first.
	ClearMetadata bool
}

// PlaceHold reserves money of an account: it lowers the available amount but not the balance.
type PlaceHold struct {
	// HoldID names the hold. Package command generates one when it is nil.
	HoldID    uuid.UUID
	Amount    money.Decimal
	Currency  money.Currency
	Reference string
	// ExpiresAt is when the hold expires; the zero time means never.
	ExpiresAt time.Time
	Metadata  Metadata
}

// CaptureHold takes the money of a hold, once. What is not captured is released.
type CaptureHold struct {
	HoldID uuid.UUID
	// Amount is at most the hold's; nil means all of it.
	Amount *money.Decimal
	// To is the account that receives the money; uuid.Nil pays it out.
	To uuid.UUID
	// TransferID names the transfer to To. Package command generates it.
	TransferID uuid.UUID
	Reference  string
	Metadata   Metadata
}

// ReleaseHold ends a hold; its money is available again. Reason may be empty.
type ReleaseHold struct {
	HoldID uuid.UUID
	Reason string
}

// ExpireHold ends a hold that has expired. Only the service itself sends it; the API does not accept it.
type ExpireHold struct{ HoldID uuid.UUID }

// EraseSubject records that the key of a person has been destroyed. Only the service itself sends it, to each of the person's
// accounts.
type EraseSubject struct{ SubjectID uuid.UUID }

// Reverse moves back all or part of what a deposit, a withdrawal or a transfer moved.
type Reverse struct {
	// Position is the movement's position in the log; for a transfer, that of either side.
	Position int64
	// Movement is the event at Position. An Index fills it in.
	Movement Movement
	// ReversalID names the reversal in its events. Package command generates it.
	ReversalID uuid.UUID
	// Amount is at most what earlier reversals have left of the movement; nil means all of that.
	Amount *money.Decimal
	Reason string
	// Force takes the money even from an account on which it is not available.
	Force bool
}

// Movement is a movement of money in the log, with how much of it has been reversed.
type Movement struct {
	AccountID uuid.UUID
	// Event is nil if there is no event at the position.
	Event Event
	// OtherPosition is the position of the other side of a transfer.
	OtherPosition int64
	// Reversed is the sum of the reversals of the movement, in minor units.
	Reversed int64
}

// Name is "open".
func (Open) Name() string { return "open" }

// Name is "deposit".
func (Deposit) Name() string { return "deposit" }

// Name is "withdraw".
func (Withdraw) Name() string { return "withdraw" }

// Name is "suspend".
func (Suspend) Name() string { return "suspend" }

// Name is "reactivate".
func (Reactivate) Name() string { return "reactivate" }

// Name is "close".
func (Close) Name() string { return "close" }

// Name is "transfer".
func (Transfer) Name() string { return "transfer" }

// Name is "change".
func (Change) Name() string { return "change" }

// Name is "hold".
func (PlaceHold) Name() string { return "hold" }

// Name is "capture".
func (CaptureHold) Name() string { return "capture" }

// Name is "release".
func (ReleaseHold) Name() string { return "release" }

// Name is "expire".
func (ExpireHold) Name() string { return "expire" }

// Name is "reverse".
func (Reverse) Name() string { return "reverse" }

// Name is "erase".
func (EraseSubject) Name() string { return "erase" }
