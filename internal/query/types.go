// Package query is the read side: it reads the read models only, and can wait until one has applied a position.
package query

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

var (
	// ErrNotFound says that the read model does not have the account.
	ErrNotFound = errors.New("account not found in the read model")
	// ErrNotOpenThen says that no account with the id was open at the time asked about. Whether one was opened later makes
	// no difference, since the result must be the same before and after. It wraps ErrNotFound.
	ErrNotOpenThen = fmt.Errorf("%w as of then", ErrNotFound)
	// ErrHoldNotFound says that the read model does not have the hold, or has it on another account. It wraps ErrNotFound.
	ErrHoldNotFound = fmt.Errorf("hold: %w", ErrNotFound)
	// ErrTransferNotFound says that the read model does not have the transfer. It wraps ErrNotFound.
	ErrTransferNotFound = fmt.Errorf("transfer: %w", ErrNotFound)
	// ErrBehind says that the read model had not applied the wanted position when the wait ended, that it is lower than
	// in an earlier result of this instance, or that the position of a recent time is not final yet.
	ErrBehind = errors.New("the projection has not applied the position yet")
	// ErrBadCursor says that a page cursor was not made by this service, or was made for another list.
	ErrBadCursor = errors.New("the cursor is not valid")
)

// FutureError says that a time asked about is in the future, by the clock of the database.
type FutureError struct {
	// Parameter is the one that the time was given in: "at", "from" or "to".
	Parameter string
}

func (e *FutureError) Error() string { return e.Parameter + " is in the future" }

// ArchivedError says that a time asked about is before the first event that the log has; earlier ones are in the archive.
type ArchivedError struct {
	// First is the position of that event.
	First int64
}

func (e *ArchivedError) Error() string {
	return fmt.Sprintf("the time is before the event at position %d, the first that is not in the archive", e.First)
}

// Account is one row of the balances read model.
type Account struct {
	ID       uuid.UUID
	Owner    string
	Currency money.Currency
	// Balance, Overdraft and Held, the sum of the open holds, are in minor units of Currency.
	Balance, Overdraft, Held int64
	// Metadata is the caller's labels; nil when there are none.
	Metadata map[string]string
	// Deposited and Withdrawn are the sums of all money that ever came in and went out, transfers included and less what was
	// reversed, as decimal text ("12.34"): over an account's life they may exceed the range of a balance.
	Deposited, Withdrawn string
	// Status is "active", "suspended" or "closed".
	Status string
	// Version and Position are those of the account's last applied event.
	Version, Position int64
	OpenedAt          time.Time
	UpdatedAt         time.Time
	// ClosedAt is zero unless Status is "closed".
	ClosedAt time.Time
}

// ListFilter selects and orders a page of accounts. Zero values mean any.
type ListFilter struct {
	Owner, Currency, Status string
	// OwnerContains is a part of the owner's name, in any case and with or without accents.
	OwnerContains string
	// Sort is "opened_at" (the default), "-opened_at", "owner" or "-owner".
	// Ties are broken by account id, so that no account is listed twice or left out.
	Sort string
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
	// Count asks for the number of elements on all pages.
	Count bool
}

// Page is one page of accounts.
type Page struct {
	Accounts []Account
	// Next is the cursor of the page after this one, empty on the last.
	Next string
	// Total is nil unless it was asked for.
	Total *ListTotal
}

// BalanceAt is an account as it stood at some position of the log.
type BalanceAt struct {
	ID       uuid.UUID
	Owner    string
	Currency money.Currency
	// Balance, Overdraft and Held, the sum of the open holds, are in minor units of Currency.
	Balance, Overdraft, Held int64
	// Metadata is the caller's labels; nil when there were none.
	Metadata map[string]string
	// Status is "active", "suspended" or "closed".
	Status string
	// Version, Position and UpdatedAt are the version, position and time of the account's last event by then.
	Version, Position int64
	UpdatedAt         time.Time
}

// AsOf is a point in the past: a time or a position of the log. One of them is set.
type AsOf struct {
	Time     time.Time
	Position int64
}

// StatementFilter selects and orders a page of an account's movements. Zero values mean any.
type StatementFilter struct {
	// From and To bound the time when a movement was recorded: From is included, To is not. With To a result never changes
	// later, and the account must have been open by then.
	From, To *time.Time
	// Kind is that of a Transaction.
	Kind string
	// Sort is "-recorded_at" (the default), newest first, or "recorded_at". Movements recorded at the same time are in the
	// order of the log.
	Sort string
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
	// Count asks for the number of elements on all pages.
	Count bool
}

// Transaction is one movement of money on an account.
type Transaction struct {
	AccountID uuid.UUID
	Currency  money.Currency
	// Kind is "deposit", "withdrawal", "transfer_in", "transfer_out", "reversal_in" or "reversal_out".
	Kind string
	// Amount is what was moved, above zero, and Balance what the account had after it, both in minor units.
	Amount, Balance int64
	// Counterparty is the other account of a transfer, and TransferID the id that both sides share; both are the nil UUID
	// for other movements. The reversals of a transfer have them too.
	Counterparty, TransferID uuid.UUID
	// HoldID is the hold that the movement captured, or the nil UUID.
	HoldID uuid.UUID
	// Reverses is the position of the movement that this one reverses, or 0.
	Reverses int64
	// ReversedBy is the positions of the reversals of the movement, and ReversedAmount the sum of them, as of the moment that
	// was asked about. PeriodMovements leaves both zero.
	ReversedBy     []int64
	ReversedAmount int64
	// Metadata is the caller's labels; nil when there are none.
	Metadata map[string]string
	// Reference is the caller's; it may be empty.
	Reference string
	// Version is that of the account after the movement, and Position that of the movement in the log.
	Version, Position int64
	RecordedAt        time.Time
}

// Statement is one page of an account's movements.
type Statement struct {
	AccountID    uuid.UUID
	Currency     money.Currency
	Transactions []Transaction
	// Next is the cursor of the page after this one, empty on the last.
	Next string
	// Total is nil unless it was asked for.
	Total *ListTotal
}

// Total is the totals of the accounts of a currency. Sums are decimal text ("12.34"), since they may exceed the range of an
// amount.
type Total struct {
	Currency money.Currency
	// Accounts is how many were ever opened.
	Accounts int64
	// Balance is the sum of all balances. While the projection has applied only one side of a transfer, the amount still
	// counts as the sender's, so that Balance is Deposited less Withdrawn at every position.
	Balance string
	// Deposited and Withdrawn are the sums of what came in from outside and went out again; transfers count in neither.
	Deposited, Withdrawn string
}

// Wait asks a query to wait until the read model has applied a position. The zero value does not wait.
type Wait struct {
	// MinPosition is the position to wait for; 0 means none.
	MinPosition int64
	// Timeout bounds the wait; when it ends first, the query returns ErrBehind.
	Timeout time.Duration
}
