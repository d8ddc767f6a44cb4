// Package account is the domain: what may be done to an account (commands), what was done (events), and the rules
// between them. Decide turns a state and a command into events; Evolve turns a state and an event into the next
// state. It does no I/O, reads no clock and knows no encoding; ids and times come from outside.
package account

import (
	"github.com/google/uuid"

	"passbook/internal/money"
)

// Command is what a caller wants done to one account; a Transfer, to two. It is one of Open, Deposit, Withdraw,
// Suspend, Reactivate, Close and Transfer.
type Command interface {
	// Name is the command's name on the wire: "open", "deposit", "withdraw", "suspend", "reactivate", "close" or
	// "transfer".
	Name() string
}

// Open opens an account.
type Open struct {
	// Owner is who the account belongs to: 1 to MaxOwnerLen characters once trimmed of white space.
	Owner    string
	Currency money.Currency
	// OverdraftLimit is how far below zero the balance may go, in units of Currency; nil is 0.
	OverdraftLimit *money.Decimal
}

// Deposit puts money into an account.
type Deposit struct {
	Amount money.Decimal
	// Currency must be that of the account unless it is zero, which means not given.
	Currency money.Currency
	// Reference is the caller's own text, at most MaxTextLen characters; it may be empty.
	Reference string
}

// Withdraw takes money out of an account. Its fields are those of Deposit.
type Withdraw struct {
	Amount    money.Decimal
	Currency  money.Currency
	Reference string
}

// Suspend stops money from moving until the account is reactivated. Reason may be empty.
type Suspend struct{ Reason string }

// Reactivate ends a suspension. Reason may be empty.
type Reactivate struct{ Reason string }

// Close ends an account for good. Reason may be empty.
type Close struct{ Reason string }

// Transfer moves money to another account of the same currency.
type Transfer struct {
	// TransferID names the transfer in both its events; the caller of DecideTransfer sets it. Package command
	// makes one when it is zero.
	TransferID uuid.UUID
	// To is the account that receives. The one that sends is given beside the command.
	To        uuid.UUID
	Amount    money.Decimal
	Currency  money.Currency
	Reference string
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
