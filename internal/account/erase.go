package account

import "github.com/google/uuid"

// decideErasure refuses to erase an account twice. An account of any status can be erased.
func decideErasure(s State, c EraseSubject) (Event, error) {
	if s.Erased {
		return nil, erased("the account's subject has been erased already")
	}
	return SubjectErased(c), nil
}

func erased(detail string) error { return refuse(CodeAccountErased, FieldAccount, "%s", detail) }

// withoutText removes the text from the events of erased accounts: no key would be left to erase it with.
func withoutText(entries []Entry, state func(uuid.UUID) State) []Entry {
	for i := range entries {
		if e := &entries[i]; state(e.AccountID).Erased {
			e.Event = textless(e.Event)
		}
	}
	return entries
}

// textless returns an event without reference, reason and metadata. Erased accounts have no events with an owner.
func textless(e Event) Event {
	switch e := e.(type) {
	case MoneyDeposited:
		e.Reference, e.Metadata = "", Metadata{}
		return e
	case MoneyWithdrawn:
		e.Reference, e.Metadata = "", Metadata{}
		return e
	case TransferSent:
		e.Reference, e.Metadata = "", Metadata{}
		return e
	case TransferReceived:
		e.Reference, e.Metadata = "", Metadata{}
		return e
	case HoldPlaced:
		e.Reference, e.Metadata = "", Metadata{}
		return e
	case HoldReleased:
		e.Reason = ""
		return e
	case AccountSuspended:
		return AccountSuspended{}
	case AccountReactivated:
		return AccountReactivated{}
	case AccountClosed:
		return AccountClosed{}
	case CreditReversed:
		e.Reason = ""
		return e
	case DebitReversed:
		e.Reason = ""
		return e
	}
	return e
}
