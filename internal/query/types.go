// Package query is the read side: it answers from the read models only, and can wait until a read model has
// applied a position.
package query

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

var (
	// ErrNotFound says that the read model has no such account.
	ErrNotFound = errors.New("account not found in the read model")
	// ErrBehind says that the read model had not applied the wanted position when the wait ended.
	ErrBehind = errors.New("the projection has not applied the position yet")
	// ErrBadCursor says that a page cursor was not made by this service, or for another sort order.
	ErrBadCursor = errors.New("the cursor is not valid")
)

// Account is one row of the balances read model.
type Account struct {
	ID       uuid.UUID
	Owner    string
	Currency money.Currency
	// Balance and Overdraft are in minor units of Currency.
	Balance, Overdraft int64
	// Deposited and Withdrawn are the sums of all money that ever came in and went out, transfers included, as
	// decimal text ("12.34"): over an account's life they may pass what a balance may not.
	Deposited, Withdrawn string
	// Status is "active", "suspended" or "closed".
	Status string
	// Version is that of the account's last applied event, and Position where that event is in the log.
	Version, Position int64
	OpenedAt          time.Time
	UpdatedAt         time.Time
	// ClosedAt is zero unless Status is "closed".
	ClosedAt time.Time
}

// ListFilter selects and orders a page of accounts. Zero values mean any.
type ListFilter struct {
	Owner, Currency, Status string
	// Sort is "opened_at" (the default), "-opened_at", "owner" or "-owner".
	// Ties are broken by account id, so that no account is shown twice or left out.
	Sort string
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
}

// Page is one page of accounts.
type Page struct {
	Accounts []Account
	// Next is the cursor of the page after this one, empty on the last.
	Next string
}

// Wait asks a query to wait until the read model has applied a position. The zero value does not wait.
type Wait struct {
	// MinPosition is the position to wait for; 0 means none.
	MinPosition int64
	// Timeout bounds the wait; when it ends first, the query answers ErrBehind.
	Timeout time.Duration
}
