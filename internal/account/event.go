package account

import (
	"time"

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

	TypeOwnerChanged          = "OwnerChanged"
	TypeOverdraftLimitChanged = "OverdraftLimitChanged"
	TypeMetadataChanged       = "MetadataChanged"

	TypeHoldPlaced   = "HoldPlaced"
	TypeHoldCaptured = "HoldCaptured"
	TypeHoldReleased = "HoldReleased"
	TypeHoldExpired  = "HoldExpired"

	TypeCreditReversed = "CreditReversed"
	TypeDebitReversed  = "DebitReversed"
)

// Event is something that happened to one account. It is one of the event structs of this file, as a value and not a
// pointer, and is never changed. Events can be compared with ==.
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
	Metadata       Metadata
}

// MoneyDeposited says that money came in from outside. Amount is more than zero.
type MoneyDeposited struct {
	Amount    money.Amount
	Reference string
	Metadata  Metadata
}

// MoneyWithdrawn says that money went out. Amount is more than zero.
type MoneyWithdrawn struct {
	Amount    money.Amount
	Reference string
	Metadata  Metadata
}

// TransferSent says that money went to another account. Amount is more than zero.
type TransferSent struct {
	TransferID uuid.UUID
	To         uuid.UUID
	Amount     money.Amount
	Reference  string
	Metadata   Metadata
}

// TransferReceived says that money came from another account. Amount is more than zero.
type TransferReceived struct {
	TransferID uuid.UUID
	From       uuid.UUID
	Amount     money.Amount
	Reference  string
	Metadata   Metadata
}

// AccountSuspended says that money may not move any more.
type AccountSuspended struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountReactivated says that money may move again.
type AccountReactivated struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountClosed says that the account has ended. It is an account's last event.
type AccountClosed struct{ Reason string } //nolint:revive // the name of the event in the log

// OwnerChanged says that the account belongs to another owner, or that the owner has another name.
type OwnerChanged struct{ Owner string }

// OverdraftLimitChanged says that the account may go as far below zero as OverdraftLimit, in minor units, zero or more.
type OverdraftLimitChanged struct {
	OverdraftLimit int64
	Currency       money.Currency
}

// MetadataChanged says what the account's metadata is from now on, all of it.
type MetadataChanged struct{ Metadata Metadata }

// HoldPlaced says that Amount, more than zero, is reserved.
type HoldPlaced struct {
	HoldID    uuid.UUID
	Amount    money.Amount
	Reference string
	// ExpiresAt is the zero time if the hold does not end by itself.
	ExpiresAt time.Time
	Metadata  Metadata
}

// HoldCaptured says that a hold has ended because its money was taken. The movement of the money is the account's next event, a
// MoneyWithdrawn or a TransferSent of Amount, in the same append.
type HoldCaptured struct {
	HoldID uuid.UUID
	// Amount is what was captured, more than zero; Released is what is available again, zero or more minor units.
	Amount   money.Amount
	Released int64
}

// HoldReleased says that a hold has ended, and that Amount, all of it, is available again.
type HoldReleased struct {
	HoldID uuid.UUID
	Amount money.Amount
	Reason string
}

// HoldExpired says that a hold has ended because its time had come.
type HoldExpired struct {
	HoldID uuid.UUID
	Amount money.Amount
}

// CreditReversed says that money that had come in has gone back: Amount of the MoneyDeposited or TransferReceived at
// ReversedPosition.
type CreditReversed struct{ Reversal }

// DebitReversed says that money that had gone out has come back: Amount of the MoneyWithdrawn or TransferSent at
// ReversedPosition.
type DebitReversed struct{ Reversal }

// Reversal is what both events of reversals say.
type Reversal struct {
	// ReversalID is the same in the two events of the reversal of a transfer.
	ReversalID uuid.UUID
	// ReversedPosition is that of the movement on this account.
	ReversedPosition int64
	// Amount is more than zero. All reversals of a movement together are at most its amount.
	Amount money.Amount
	// TransferID and Counterparty, the other account, are nil unless the movement is a side of a transfer.
	TransferID   uuid.UUID
	Counterparty uuid.UUID
	Reason       string
	// Forced says that the money was not available, and was taken all the same.
	Forced bool
}

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

// EventType is TypeOwnerChanged.
func (OwnerChanged) EventType() string { return TypeOwnerChanged }

// EventType is TypeOverdraftLimitChanged.
func (OverdraftLimitChanged) EventType() string { return TypeOverdraftLimitChanged }

// EventType is TypeMetadataChanged.
func (MetadataChanged) EventType() string { return TypeMetadataChanged }

// EventType is TypeHoldPlaced.
func (HoldPlaced) EventType() string { return TypeHoldPlaced }

// EventType is TypeHoldCaptured.
func (HoldCaptured) EventType() string { return TypeHoldCaptured }

// EventType is TypeHoldReleased.
func (HoldReleased) EventType() string { return TypeHoldReleased }

// EventType is TypeHoldExpired.
func (HoldExpired) EventType() string { return TypeHoldExpired }

// EventType is TypeCreditReversed.
func (CreditReversed) EventType() string { return TypeCreditReversed }

// EventType is TypeDebitReversed.
func (DebitReversed) EventType() string { return TypeDebitReversed }
