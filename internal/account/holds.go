package account

import (
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

func decideHold(now time.Time, s State, c PlaceHold) (Event, error) {
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	amount, err := movement(s, c.Amount, c.Currency, c.Reference, c.Metadata)
	if err != nil {
		return nil, err
	}
	expiresAt, err := expiry(now, c.ExpiresAt)
	if err != nil {
		return nil, err
	}
	if _, open := s.Hold(c.HoldID); open {
		return nil, ErrHoldExists
	}
	if len(s.Holds) >= MaxHolds {
		return nil, refuse(CodeTooManyHolds, FieldAccount, "the account already has %d open holds, the maximum", len(s.Holds))
	}
	if err := debitable(s, amount, false); err != nil {
		return nil, err
	}
	return HoldPlaced{
		HoldID: c.HoldID, Amount: amount, Reference: c.Reference, ExpiresAt: expiresAt, Metadata: c.Metadata,
	}, nil
}

// expiry returns the time at which a hold expires as the log stores it: in UTC and whole microseconds.
func expiry(now, at time.Time) (time.Time, error) {
	if at.IsZero() {
		return time.Time{}, nil
	}
	at = at.UTC().Truncate(time.Microsecond)
	if !at.After(now) {
		return at, refuse(CodeExpiryInPast, FieldExpiresAt, "expires_at must be in the future")
	}
	if at.Year() > maxYear {
		return at, refuse(CodeExpiryTooLate, FieldExpiresAt, "expires_at must not be after the year %d", maxYear)
	}
	return at, nil
}

// maxYear is the last year that RFC 3339 can express.
const maxYear = 9999

// decideCapture returns two events on the account, the end of the hold and the movement, and a third on the receiving account, if
// there is one. It does not check that the money is available: the hold has reserved it.
func decideCapture(now time.Time, id uuid.UUID, state func(uuid.UUID) State, c CaptureHold) ([]Entry, error) {
	out := c.To == uuid.Nil
	if id == c.To {
		return nil, refuse(CodeSameAccount, FieldTo, "a hold can only be captured to another account, or paid out")
	}
	s := state(id)
	if !s.Exists() {
		return nil, ErrNotFound
	}
	var to State
	if !out {
		if to = state(c.To); !to.Exists() {
			return nil, &NotFoundError{AccountID: c.To, Field: FieldTo}
		}
	}
	if err := movable(s, FieldAccount); err != nil {
		return nil, err
	}
	h, open := s.Hold(c.HoldID)
	if !open {
		return nil, ErrHoldNotFound
	}
	if h.expired(now) {
		return nil, refuse(CodeHoldExpired, FieldHold, "the hold has expired")
	}
	amount, err := h.captured(s, c.Amount)
	if err != nil {
		return nil, err
	}
	if err := checkText(FieldReference, FieldReference, c.Reference, MaxTextLen); err != nil {
		return nil, err
	}
	if err := checkMetadata(c.Metadata); err != nil {
		return nil, err
	}
	captured := Entry{id, HoldCaptured{HoldID: c.HoldID, Amount: amount, Released: h.Amount - amount.Minor()}}
	if out {
		return []Entry{captured, {id, MoneyWithdrawn{Amount: amount, Reference: c.Reference, Metadata: c.Metadata}}}, nil
	}
	if err := receivable(s, to); err != nil {
		return nil, err
	}
	if err := creditable(to, amount, FieldAmount); err != nil {
		return nil, err
	}
	t := Transfer{TransferID: c.TransferID, To: c.To, Reference: c.Reference, Metadata: c.Metadata}
	return append([]Entry{captured}, transferred(id, amount, t)...), nil
}

// expired reports whether the hold's expiry time has come.
func (h Hold) expired(now time.Time) bool { return !h.ExpiresAt.IsZero() && !h.ExpiresAt.After(now) }

// captured returns the amount to capture: the given one, or all of the hold.
func (h Hold) captured(s State, given *money.Decimal) (money.Amount, error) {
	all := money.New(h.Amount, s.Currency)
	if given == nil {
		return all, nil
	}
	amount, err := positive(*given, s.Currency, FieldAmount)
	if err == nil && amount.Minor() > h.Amount {
		err = refuse(CodeAmountAboveHold, FieldAmount, "only %s %s is held, which is less than %s", all, s.Currency, amount)
	}
	return amount, err
}

// decideRelease allows a suspended account, because no money moves.
func decideRelease(s State, c ReleaseHold) (Event, error) {
	h, open := s.Hold(c.HoldID)
	if !open {
		return nil, ErrHoldNotFound
	}
	if err := checkText(FieldReason, FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	return HoldReleased{HoldID: c.HoldID, Amount: money.New(h.Amount, s.Currency), Reason: c.Reason}, nil
}

func decideExpiry(now time.Time, s State, c ExpireHold) (Event, error) {
	h, open := s.Hold(c.HoldID)
	if !open {
		return nil, ErrHoldNotFound
	}
	if !h.expired(now) {
		return nil, refuse(CodeHoldNotExpired, FieldHold, "the hold has not expired")
	}
	return HoldExpired{HoldID: c.HoldID, Amount: money.New(h.Amount, s.Currency)}, nil
}
