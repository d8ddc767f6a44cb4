package account

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Errors of Decide and of an Index that are not about a rule.
var (
	// ErrNotFound means that the account was never opened. For a transfer, a *NotFoundError says which account.
	ErrNotFound = errors.New("account not found")
	// ErrExists means that the account id is taken.
	ErrExists = errors.New("account already exists")
	// ErrTransferExists means that the transfer id is taken. Only an Index returns it.
	ErrTransferExists = errors.New("transfer already exists")
	// ErrHoldExists means that the hold id is taken. Decide checks the open holds of the account, an Index all holds.
	ErrHoldExists = errors.New("hold already exists")
	// ErrHoldNotFound means that the account has no open hold with the id. For a hold that has ended, an Index returns a *Refusal
	// instead.
	ErrHoldNotFound = errors.New("hold not found")
	// ErrMovementNotFound means that there is no event at the position to reverse.
	ErrMovementNotFound = errors.New("movement not found")
)

// NotFoundError is ErrNotFound for one of several accounts. Field is the one of the Field constants that named it.
type NotFoundError struct {
	AccountID uuid.UUID
	Field     string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("account %s not found", e.AccountID) }

// Is reports whether target is ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Values of Refusal.Code. They are part of the API and never change.
const (
	CodeInsufficientFunds   = "insufficient-funds"
	CodeAccountClosed       = "account-closed"
	CodeAccountSuspended    = "account-suspended"
	CodeAccountNotSuspended = "account-not-suspended"
	CodeBalanceNotZero      = "balance-not-zero"
	CodeBalanceOverflow     = "balance-overflow"
	CodeCurrencyMismatch    = "currency-mismatch"
	CodeCurrencyUnknown     = "currency-unknown"
	CodeSameAccount         = "same-account"
	CodeAmountZero          = "amount-zero"
	CodeAmountTooPrecise    = "amount-too-precise"
	CodeAmountOverflow      = "amount-overflow"
	CodeTextEmpty           = "text-empty"
	CodeTextTooLong         = "text-too-long"
	CodeTextInvalid         = "text-invalid"
	CodeNothingToChange     = "nothing-to-change"
	CodeLimitBelowDebit     = "limit-below-debit"
	CodeMetadataTooLarge    = "metadata-too-large"
	CodeHoldNotOpen         = "hold-not-open"
	CodeHoldsOpen           = "holds-open"
	CodeTooManyHolds        = "too-many-holds"
	CodeHoldExpired         = "hold-expired"
	CodeHoldNotExpired      = "hold-not-expired"
	CodeExpiryInPast        = "expiry-in-past"
	CodeExpiryTooLate       = "expiry-too-late"
	CodeAmountAboveHold     = "amount-above-hold"
	CodeNotReversible       = "not-reversible"
	CodeAlreadyReversed     = "already-reversed"
	CodeAmountAboveMovement = "amount-above-movement"
	CodeMovementArchived    = "movement-archived"
	CodeAccountErased       = "account-erased"
)

// Values of Refusal.Field: the fields of a request that a Refusal can be about.
const (
	FieldAccount        = "account_id"
	FieldFrom           = "from_account_id"
	FieldTo             = "to_account_id"
	FieldAmount         = "amount"
	FieldCurrency       = "currency"
	FieldOwner          = "owner"
	FieldOverdraftLimit = "overdraft_limit"
	FieldReference      = "reference"
	FieldReason         = "reason"
	FieldInitialDeposit = "initial_deposit"
	FieldMetadata       = "metadata"
	FieldHold           = "hold_id"
	FieldTransfer       = "transfer_id"
	FieldExpiresAt      = "expires_at"
	FieldPosition       = "position"
	FieldSubject        = "subject_id"
)

// Refusal is the error of a command that breaks a rule.
type Refusal struct { //nolint:errname // a decision, not a failure
	// Code is one of the Code constants.
	Code string
	// Field is one of the Field constants, or empty when no field of the request is at fault.
	Field string
	// Detail is one sentence for people, without a full stop.
	Detail string
}

func (e *Refusal) Error() string { return e.Detail }

// IsRefusal reports whether err is a decision: a *Refusal, or one of the errors about something missing or an id taken.
func IsRefusal(err error) bool {
	_, refused := errors.AsType[*Refusal](err)
	return refused || slices.ContainsFunc([]error{
		ErrNotFound, ErrExists, ErrTransferExists, ErrHoldExists, ErrHoldNotFound, ErrMovementNotFound,
	}, func(target error) bool { return errors.Is(err, target) })
}

// MissingError returns the error of command c on account id, which was never opened.
func MissingError(id uuid.UUID, c Command) error {
	switch c.(type) {
	case Transfer:
		return &NotFoundError{AccountID: id, Field: FieldFrom}
	case Reverse:
		return ErrMovementNotFound
	}
	return ErrNotFound
}

func refuse(code, field, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Field: field, Detail: fmt.Sprintf(format, args...)}
}
