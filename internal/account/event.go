package account

import (
	"github.com/google/uuid"

	"passbook/internal/money"
)

// The names of the event types in the log. They never change.
const (
	TypeAccountCreated     = "AccountCreated"
	TypeMoneyDeposited     = "MoneyDeposited"
	TypeMoneyWithdrawn     = "MoneyWithdrawn"
	TypeTransferSent       = "TransferSent"
	TypeTransferReceived   = "TransferReceived"
	TypeAccountSuspended   = "AccountSuspended"
	TypeAccountReactivated = "AccountReactivated"
	TypeAccountClosed      = "AccountClosed"
)

// Event is something that happened to one account. It is one of the eight event structs of this package, as a
// value and not a pointer, and is never changed.
type Event interface {
	// EventType is the event's name in the log, one of the Type constants.
	EventType() string
}

// AccountCreated says that an account was opened, with a balance of zero.
type AccountCreated struct { //nolint:revive // the name of the event in the log
	Owner    string
	Currency money.Currency
	// OverdraftLimit is in minor units of Currency, zero or more.
	OverdraftLimit int64
}

// MoneyDeposited says that money came in from outside. Amount is more than zero.
type MoneyDeposited struct {
	Amount    money.Amount
	Reference string
}

// MoneyWithdrawn says that money went out. Amount is more than zero.
type MoneyWithdrawn struct {
	Amount    money.Amount
	Reference string
}

// TransferSent says that money went to another account. Amount is more than zero.
type TransferSent struct {
	TransferID uuid.UUID
	To         uuid.UUID
	Amount     money.Amount
	Reference  string
}

// TransferReceived says that money came from another account. Amount is more than zero.
type TransferReceived struct {
	TransferID uuid.UUID
	From       uuid.UUID
	Amount     money.Amount
	Reference  string
}

// AccountSuspended says that money may not move any more.
type AccountSuspended struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountReactivated says that money may move again.
type AccountReactivated struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountClosed says that the account has ended. It is an account's last event.
type AccountClosed struct{ Reason string } //nolint:revive // the name of the event in the log

// EventType is TypeAccountCreated.
func (AccountCreated) EventType() string { return TypeAccountCreated }

// EventType is TypeMoneyDeposited.
func (MoneyDeposited) EventType() string { return TypeMoneyDeposited }

// EventType is TypeMoneyWithdrawn.
func (MoneyWithdrawn) EventType() string { return TypeMoneyWithdrawn }

// EventType is TypeTransferSent.
func (TransferSent) EventType() string { return TypeTransferSent }

// EventType is TypeTransferReceived.
func (TransferReceived) EventType() string { return TypeTransferReceived }

// EventType is TypeAccountSuspended.
func (AccountSuspended) EventType() string { return TypeAccountSuspended }

// EventType is TypeAccountReactivated.
func (AccountReactivated) EventType() string { return TypeAccountReactivated }

// EventType is TypeAccountClosed.
func (AccountClosed) EventType() string { return TypeAccountClosed }
