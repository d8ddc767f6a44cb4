package account

import "github.com/google/uuid"

// Names is what a command names in the log; what is zero it does not name.
type Names struct {
	Transfer, Hold uuid.UUID
	Position       int64
}

// NamesOf returns what a command names.
func NamesOf(c Command) Names {
	switch c := c.(type) {
	case Transfer:
		return Names{Transfer: c.TransferID}
	case PlaceHold:
		return Names{Hold: c.HoldID}
	case CaptureHold:
		return Names{Transfer: c.TransferID, Hold: c.HoldID}
	case ReleaseHold:
		return Names{Hold: c.HoldID}
	case ExpireHold:
		return Names{Hold: c.HoldID}
	case Reverse:
		return Names{Position: c.Position}
	}
	return Names{}
}

// Index is what the events of all accounts say of the ids and positions that some commands name: which ids of transfers and holds
// are used, how the holds ended, and what the movements were and how much of them is reversed.
type Index struct {
	transfers map[uuid.UUID]bool
	holds     map[uuid.UUID]heldBy
	movements map[int64]Movement
	reversed  map[int64]int64 // in minor units, by the position of the movement
}

// heldBy is the account of a hold, and how the hold has ended, which is empty while it is open.
type heldBy struct {
	account uuid.UUID
	ended   string
}

// NewIndex returns the index of no events.
func NewIndex() *Index {
	return &Index{make(map[uuid.UUID]bool), make(map[uuid.UUID]heldBy), make(map[int64]Movement), make(map[int64]int64)}
}

// Found adds an event of an account that is at a position which a command names.
func (x *Index) Found(position int64, id uuid.UUID, e Event) {
	m := Movement{AccountID: id, Event: e}
	switch e.(type) {
	case TransferSent: // the two sides are next to each other
		m.OtherPosition = position + 1
	case TransferReceived:
		m.OtherPosition = position - 1
	}
	x.movements[position] = m
}

// Apply adds an event of an account. Those of a hold are added in order.
func (x *Index) Apply(id uuid.UUID, e Event) {
	switch e := e.(type) {
	case TransferSent:
		x.transfers[e.TransferID] = true
	case HoldPlaced:
		x.holds[e.HoldID] = heldBy{account: id}
	case HoldCaptured:
		x.holds[e.HoldID] = heldBy{id, "captured"}
	case HoldReleased:
		x.holds[e.HoldID] = heldBy{id, "released"}
	case HoldExpired:
		x.holds[e.HoldID] = heldBy{id, "expired"}
	case CreditReversed:
		x.reversed[e.ReversedPosition] += e.Amount.Minor()
	case DebitReversed:
		x.reversed[e.ReversedPosition] += e.Amount.Minor()
	}
}

// Undo takes away the event of an account that was applied last of those not undone.
func (x *Index) Undo(id uuid.UUID, e Event) {
	switch e := e.(type) {
	case TransferSent:
		delete(x.transfers, e.TransferID)
	case HoldPlaced:
		delete(x.holds, e.HoldID)
	case HoldCaptured:
		x.holds[e.HoldID] = heldBy{account: id}
	case HoldReleased:
		x.holds[e.HoldID] = heldBy{account: id}
	case HoldExpired:
		x.holds[e.HoldID] = heldBy{account: id}
	case CreditReversed:
		x.reversed[e.ReversedPosition] -= e.Amount.Minor()
	case DebitReversed:
		x.reversed[e.ReversedPosition] -= e.Amount.Minor()
	}
}

// Accounts returns the accounts that a command is about: the one it is given with, or that of the movement of a Reverse, nil if
// there is none; and, of some commands, another.
func (x *Index) Accounts(id uuid.UUID, c Command) (own uuid.UUID, other *uuid.UUID) {
	switch c := c.(type) {
	case Transfer:
		return id, &c.To
	case CaptureHold:
		if c.To != uuid.Nil {
			return id, &c.To
		}
	case Reverse:
		m := x.movements[c.Position]
		if _, r, _, _ := m.parts(); r.Counterparty != uuid.Nil {
			return m.AccountID, &r.Counterparty
		}
		return m.AccountID, nil
	}
	return id, nil
}

// Complete returns a command on the account id as Decide takes it: with the ids that it lacks, which newID makes, and the movement of
// a Reverse. The error says that an id was used before, ErrTransferExists or ErrHoldExists, or is a *Refusal: the account's hold has
// ended.
func (x *Index) Complete(id uuid.UUID, c Command, newID func() uuid.UUID) (Command, error) {
	names := NamesOf(c)
	if x.transfers[names.Transfer] {
		return nil, ErrTransferExists
	}
	h, used := x.holds[names.Hold]
	if _, places := c.(PlaceHold); places && used {
		return nil, ErrHoldExists
	}
	if h.ended != "" && h.account == id {
		return nil, refuse(CodeHoldNotOpen, FieldHold, "the hold was %s", h.ended)
	}
	made := func(id uuid.UUID) uuid.UUID {
		if id == uuid.Nil {
			return newID()
		}
		return id
	}
	switch c := c.(type) {
	case Transfer:
		c.TransferID = made(c.TransferID)
		return c, nil
	case PlaceHold:
		c.HoldID = made(c.HoldID)
		return c, nil
	case CaptureHold:
		c.TransferID = made(c.TransferID)
		return c, nil
	case Reverse:
		c.ReversalID = made(c.ReversalID)
		c.Movement = x.movements[c.Position]
		c.Movement.Reversed = x.reversed[c.Position]
		return c, nil
	}
	return c, nil
}
