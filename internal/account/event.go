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

	TypeSubjectErased = "SubjectErased"
)

// Event is something that happened to one account: one of the structs of this file, as a value and not a pointer. Events are
// immutable and can be compared with ==.
type Event interface {
	// EventType is the event's name in the log, one of the Type constants.
	EventType() string
}

// AccountCreated records that an account was opened, with a balance of zero.
type AccountCreated struct { //nolint:revive // the name of the event in the log
	Owner    string
	Currency money.Currency
	// OverdraftLimit is in minor units of Currency, zero or more.
	OverdraftLimit int64
	Metadata       Metadata
	// SubjectID is the person whose account it is; uuid.Nil means that the account is its own subject.
	SubjectID uuid.UUID
}

// SubjectErased records that the owner, the references, the reasons and the metadata of the account are gone. It may follow
// AccountClosed.
type SubjectErased struct{ SubjectID uuid.UUID }

// MoneyDeposited records that money came in from outside. Amount is more than zero.
type MoneyDeposited struct {
	Amount    money.Amount
	Reference string
	Metadata  Metadata
}

// MoneyWithdrawn records that money went out. Amount is more than zero.
type MoneyWithdrawn struct {
	Amount    money.Amount
	Reference string
	Metadata  Metadata
}

// TransferSent records that money went to another account. Amount is more than zero.
type TransferSent struct {
	TransferID uuid.UUID
	To         uuid.UUID
	Amount     money.Amount
	Reference  string
	Metadata   Metadata
}

// TransferReceived records that money came from another account. Amount is more than zero.
type TransferReceived struct {
	TransferID uuid.UUID
	From       uuid.UUID
	Amount     money.Amount
	Reference  string
	Metadata   Metadata
}

// AccountSuspended records that money may no longer move.
type AccountSuspended struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountReactivated records that money may move again.
type AccountReactivated struct{ Reason string } //nolint:revive // the name of the event in the log

// AccountClosed records that the account was closed. It is an account's last event.
type AccountClosed struct{ Reason string } //nolint:revive // the name of the event in the log

// OwnerChanged records a new owner, or a new name of the owner.
type OwnerChanged struct{ Owner string }

// OverdraftLimitChanged records how far below zero the account may go, in minor units, zero or more.
type OverdraftLimitChanged struct {
	OverdraftLimit int64
	Currency       money.Currency
}

// MetadataChanged records the account's new metadata, all of it.
type MetadataChanged struct{ Metadata Metadata }

// HoldPlaced records that Amount, more than zero, is reserved.
type HoldPlaced struct {
	HoldID    uuid.UUID
	Amount    money.Amount
	Reference string
	// ExpiresAt is the zero time if the hold does not expire.
	ExpiresAt time.Time
	Metadata  Metadata
}

// HoldCaptured records that a hold ended because its money was taken. The account's next event, in the same append, moves the
// money: a MoneyWithdrawn or a TransferSent of Amount.
type HoldCaptured struct {
	HoldID uuid.UUID
	// Amount, more than zero, was captured; Released, zero or more minor units, is available again.
	Amount   money.Amount
	Released int64
}

// HoldReleased records that a hold ended and that Amount, all of it, is available again.
type HoldReleased struct {
	HoldID uuid.UUID
	Amount money.Amount
	Reason string
}

// HoldExpired records that a hold ended at its expiry time. Amount, all of it, is available again.
type HoldExpired struct {
	HoldID uuid.UUID
	Amount money.Amount
}

// CreditReversed records that money went back: Amount of the MoneyDeposited or TransferReceived at ReversedPosition.
type CreditReversed struct{ Reversal }

// DebitReversed records that money came back: Amount of the MoneyWithdrawn or TransferSent at ReversedPosition.
type DebitReversed struct{ Reversal }

// Reversal is the content of CreditReversed and DebitReversed.
type Reversal struct {
	// ReversalID is the same in both events of a transfer's reversal.
	ReversalID uuid.UUID
	// ReversedPosition is the position of this account's movement.
	ReversedPosition int64
	// Amount is more than zero. All reversals of a movement together are at most its amount.
	Amount money.Amount
	// TransferID and Counterparty, the other account, are uuid.Nil unless the movement is one side of a transfer.
	TransferID   uuid.UUID
	Counterparty uuid.UUID
	Reason       string
	// Forced is set if the money was taken although it was not available.
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

// EventType is TypeSubjectErased.
func (SubjectErased) EventType() string { return TypeSubjectErased }
