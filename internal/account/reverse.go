package account

import (
	"errors"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// decideReversal decides on the account of the movement and, for a transfer, on the other account too.
func decideReversal(state func(uuid.UUID) State, c Reverse) ([]Entry, error) {
	m := c.Movement
	if m.Event == nil {
		return nil, ErrMovementNotFound
	}
	moved, r, credit, ok := m.parts()
	if !ok {
		return nil, refuse(CodeNotReversible, FieldPosition,
			"position %d is %s; a deposit, a withdrawal or a transfer can be reversed", c.Position, m.Event.EventType())
	}
	var err error
	if r.Amount, err = m.reversible(moved, c.Amount); err != nil {
		return nil, err
	}
	if err := checkText(FieldReason, FieldReason, c.Reason, MaxTextLen); err != nil {
		return nil, err
	}
	r.ReversalID, r.ReversedPosition, r.Reason = c.ReversalID, c.Position, c.Reason
	own := state(m.AccountID)
	if err := reversibleOn(m.AccountID, own); err != nil {
		return nil, err
	}
	if r.Counterparty == uuid.Nil {
		e, err := undone(own, r, credit, c.Force)
		if err != nil {
			return nil, err
		}
		return []Entry{{m.AccountID, e}}, nil
	}
	other := state(r.Counterparty)
	if err := reversibleOn(r.Counterparty, other); err != nil {
		return nil, err
	}
	back := r
	back.ReversedPosition, back.Counterparty = m.OtherPosition, m.AccountID
	first, err := undone(own, r, credit, c.Force)
	if err != nil {
		return nil, err
	}
	second, err := undone(other, back, !credit, c.Force)
	if err != nil {
		return nil, err
	}
	return []Entry{{m.AccountID, first}, {r.Counterparty, second}}, nil
}

// reversibleOn is movable for an account that the request names only by the position of its movement.
func reversibleOn(id uuid.UUID, s State) error {
	err := movable(s, FieldPosition)
	if r, ok := errors.AsType[*Refusal](err); ok {
		return refuse(r.Code, r.Field, "%s (account %s)", r.Detail, id)
	}
	return err
}

// parts returns the amount of a movement, a Reversal with the ids of its transfer, and whether it brought money in. ok is false
// if the event is not a movement.
func (m Movement) parts() (amount money.Amount, r Reversal, credit, ok bool) {
	switch e := m.Event.(type) {
	case MoneyDeposited:
		return e.Amount, r, true, true
	case MoneyWithdrawn:
		return e.Amount, r, false, true
	case TransferReceived:
		return e.Amount, Reversal{TransferID: e.TransferID, Counterparty: e.From}, true, true
	case TransferSent:
		return e.Amount, Reversal{TransferID: e.TransferID, Counterparty: e.To}, false, true
	}
	return amount, r, false, false
}

// reversible returns the amount to reverse: the given one, or all that is left of the movement.
func (m Movement) reversible(moved money.Amount, given *money.Decimal) (money.Amount, error) {
	left := money.New(moved.Minor()-m.Reversed, moved.Currency())
	if left.Sign() <= 0 {
		return left, refuse(CodeAlreadyReversed, FieldPosition, "the movement has already been fully reversed")
	}
	if given == nil {
		return left, nil
	}
	amount, err := positive(*given, moved.Currency(), FieldAmount)
	if err == nil && amount.Minor() > left.Minor() {
		err = refuse(CodeAmountAboveMovement, FieldAmount, "only %s %s of the movement is left to reverse", left, left.Currency())
	}
	return amount, err
}

// undone returns the event that reverses a credit or a debit.
func undone(s State, r Reversal, credit, force bool) (Event, error) {
	if !credit {
		return DebitReversed{r}, creditable(s, r.Amount, FieldAmount)
	}
	r.Forced = r.Amount.Minor() > s.Available()
	return CreditReversed{r}, debitable(s, r.Amount, force)
}
