package account

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Errors of a decision that are not about a rule.
var (
	// ErrNotFound says that the account was never opened. A transfer's is a *NotFoundError that says which.
	ErrNotFound = errors.New("account not found")
	// ErrExists says that an account with the id was opened before.
	ErrExists = errors.New("account already exists")
	// ErrTransferExists says that the id of a transfer was used before. It is an Index that knows.
	ErrTransferExists = errors.New("transfer already exists")
	// ErrHoldExists says that the id of a hold was used before. Decide knows of the open holds of the account, an Index of all.
	ErrHoldExists = errors.New("hold already exists")
	// ErrHoldNotFound says that the account has no open hold with the id. An Index tells a hold that has ended from one that never
	// was: the first is a *Refusal.
	ErrHoldNotFound = errors.New("hold not found")
	// ErrMovementNotFound says that there is no event at the position that is to be reversed.
	ErrMovementNotFound = errors.New("movement not found")
)

// NotFoundError is ErrNotFound for one of several accounts.
type NotFoundError struct{ AccountID uuid.UUID }

func (e *NotFoundError) Error() string { return fmt.Sprintf("account %s not found", e.AccountID) }

// Is reports whether target is ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Codes of a Refusal. They are part of the API and never change.
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
)

// The fields of a request that a Refusal can be about.
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
	FieldExpiresAt      = "expires_at"
	FieldPosition       = "position"
)

// Refusal says which rule a command broke. Nothing was done.
type Refusal struct { //nolint:errname // it says no; nothing went wrong
	// Code is one of the Code constants.
	Code string
	// Field is one of the Field constants, or empty when no field of the request is at fault.
	Field string
	// Detail is one sentence for a person, without a full stop.
	Detail string
}

func (e *Refusal) Error() string { return e.Detail }

// IsRefusal reports whether an error is a decision: a *Refusal, or that what a command names does not exist or exists already.
func IsRefusal(err error) bool {
	_, refused := errors.AsType[*Refusal](err)
	return refused || slices.ContainsFunc([]error{
		ErrNotFound, ErrExists, ErrTransferExists, ErrHoldExists, ErrHoldNotFound, ErrMovementNotFound,
	}, func(target error) bool { return errors.Is(err, target) })
}

// MissingError is the error of a command whose account, which is id, was never opened.
func MissingError(id uuid.UUID, c Command) error {
	switch c.(type) {
	case Transfer:
		return &NotFoundError{AccountID: id}
	case Reverse:
		return ErrMovementNotFound
	}
	return ErrNotFound
}

func refuse(code, field, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Field: field, Detail: fmt.Sprintf(format, args...)}
}
