package account

import "github.com/google/uuid"

// Index holds what decisions need to know across accounts about the ids and positions that commands name: which transfer and hold
// ids are taken, how holds ended, and how much of which movement has been reversed. Its caller passes it the commands (Want), the
// events in the log that concern them (Add), and the events decided since (Apply).
type Index struct {
	// Head is the position of the log's head, and First the first one from which on the log has all events. Only a Reverse needs them.
	Head, First int64

	wanted    Wanted
	transfers map[uuid.UUID]bool
	holds     map[uuid.UUID]heldBy
	movements map[int64]Movement // every wanted position; Event is nil if the log has none there
	reversed  map[int64]int64    // minor units, by the position of the movement
}

// Wanted lists the ids and positions that commands name.
type Wanted struct {
	Transfers, Holds [][16]byte
	Positions        []int64
}

// heldBy is the account of a hold and how the hold ended; ended is empty while it is open.
type heldBy struct {
	account uuid.UUID
	ended   string
}

// NewIndex returns an empty index.
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

// Wanted returns what to search the log for: the TransferSent of the transfers, all events of the holds, the events at the
// positions, and their reversals.
func (x *Index) Wanted() Wanted { return x.wanted }

// named returns the ids and the position that a command names, each zero if it names none.
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

// NamesAny reports whether a command names anything that has to be searched for in the log.
func NamesAny(c Command) bool {
	transfer, hold, position := named(c)
	return transfer != uuid.Nil || hold != uuid.Nil || position != 0
}

// Add adds an event of account id from the log. Events are added in order of position.
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

// Apply adds an event that was decided but is not in the log yet.
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

// Undo undoes Apply. Events are undone in reverse order.
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

// Accounts returns the accounts that a command on account id concerns: own is id or, for a Reverse, the account of the movement
// (uuid.Nil if there is none); other is nil unless the command concerns two.
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

// Complete returns a command on account id with what Decide needs: ids from newID where they are missing, and the movement of a
// Reverse. The error is ErrTransferExists, ErrHoldExists, or a *Refusal if the account's hold has ended or the movement is in the archive.
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
		if c.Movement.Event == nil && c.Position <= x.Head { // a log has no gap
			return nil, refuse(CodeMovementArchived, FieldPosition,
				"the movement at position %d is in the archive; movements from position %d on can be reversed", c.Position, x.First)
		}
		c.Movement.Reversed = x.reversed[c.Position]
		return c, nil
	}
	return c, nil
}
