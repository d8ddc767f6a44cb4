package cli

import (
	"context"
	"time"

	"github.com/google/uuid"

	"passbook/client"
	"passbook/internal/money"
)

// tellFor bounds how long a command that has succeeded waits until it can say whose account it was.
const tellFor = 2 * time.Second

// told is what people are told of an account that a command has changed.
type told struct{ owner, currency, balance string }

// tell reads an account as of a position. It returns the zero value if that fails: the command has succeeded, and a key that may change
// accounts need not be one that may read them.
func tell(ctx context.Context, c *client.Client, id uuid.UUID, position int64) told {
	ctx, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	a, err := c.Account(ctx, id, client.AtLeast(position))
	if err != nil {
		return told{}
	}
	return told{owner: oneLine(a.Owner), currency: a.Currency, balance: a.Balance}
}

// sum is an amount as it was typed, with its currency and the decimals of that.
func (t told) sum(typed string) string {
	currency, err := money.ParseCurrency(t.currency)
	if err != nil {
		return typed
	}
	decimal, err := money.ParseDecimal(typed)
	if err != nil {
		return typed + " " + t.currency
	}
	amount, err := decimal.In(currency)
	if err != nil {
		return typed + " " + t.currency
	}
	return amount.String() + " " + t.currency
}

// of names the owner after a word such as to, if the account could be read and the person has not been erased.
func (t told) of(word string) string {
	if t.owner == "" {
		return ""
	}
	return " " + word + " " + t.owner
}

// now is the balance, if the account could be read.
func (t told) now() string {
	if t.currency == "" {
		return ""
	}
	return ", balance " + t.balance + " " + t.currency
}
