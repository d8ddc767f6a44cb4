package account

import "github.com/google/uuid"

// Index is what the events of all accounts say of the ids and positions that some commands name: which ids of transfers and holds
// are used, how the holds ended, and what the movements were and how much of them is reversed. It has to be told of the commands
// (Want), of the events in the log that concern them (Add), and of the events that are decided then (Apply).
type Index struct {
	wanted    Wanted
	transfers map[uuid.UUID]bool
	holds     map[uuid.UUID]heldBy
	movements map[int64]Movement // nothing is at a position whose Event is nil
	reversed  map[int64]int64    // in minor units, by the position of the movement
}

// Wanted is what commands name.
type Wanted struct {
	Transfers, Holds [][16]byte
	Positions        []int64
}

// heldBy is the account of a hold, and how the hold has ended, which is empty while it is open.
type heldBy struct {
	account uuid.UUID
	ended   string
}

// NewIndex returns the index of no events.
func NewIndex() *Index {
	return &Index{
		transfers: make(map[uuid.UUID]bool), holds: make(map[uuid.UUID]heldBy),
		movements: make(map[int64]Movement), reversed: make(map[int64]int64),
	}
}

// Want adds what a command names to Wanted.
func (x *Index) Want(c Command) {
	transfer, hold, position := named(c)
	if transfer != uuid.Nil {
		x.wanted.Transfers = append(x.wanted.Transfers, transfer)
	}
	if hold != uuid.Nil {
		x.wanted.Holds = append(x.wanted.Holds, hold)
	}
	if position != 0 {
		x.wanted.Positions = append(x.wanted.Positions, position)
		x.movements[position] = Movement{}
	}
}

// Wanted returns what the log has to be searched for: the TransferSent of the transfers, all events of the holds, and the events
// that are at the positions or reverse what is.
func (x *Index) Wanted() Wanted { return x.wanted }

// named returns what a command names: ids and a position, each zero if it names none.
func named(c Command) (transfer, hold uuid.UUID, position int64) {
	switch c := c.(type) {
	case Transfer:
		return c.TransferID, hold, 0
	case PlaceHold:
		return transfer, c.HoldID, 0
	case CaptureHold:
		return c.TransferID, c.HoldID, 0
	case ReleaseHold:
		return transfer, c.HoldID, 0
	case ExpireHold:
		return transfer, c.HoldID, 0
	case Reverse:
		return transfer, hold, c.Position
	}
	return transfer, hold, 0
}

// NamesAny reports whether a command names anything for which the log has to be searched.
func NamesAny(c Command) bool {
	transfer, hold, position := named(c)
	return transfer != uuid.Nil || hold != uuid.Nil || position != 0
}

// Add adds an event of the log, which is of the account id. Events are added in order of position.
func (x *Index) Add(position int64, id uuid.UUID, e Event) {
	x.Apply(id, e)
	if _, wanted := x.movements[position]; !wanted {
		return
	}
	m := Movement{AccountID: id, Event: e}
	switch e.(type) {
	case TransferSent: // the two sides are next to each other
		m.OtherPosition = position + 1
	case TransferReceived:
		m.OtherPosition = position - 1
	}
	x.movements[position] = m
}

// Apply adds an event that follows on the log.
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
	transfer, hold, _ := named(c)
	if x.transfers[transfer] {
		return nil, ErrTransferExists
	}
	h, used := x.holds[hold]
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
