package command

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// maxFollowed is how many events an instance applies to catch up. Further behind it is cheaper to forget the accounts.
const maxFollowed = 4096

// accounts is what an instance knows: the accounts it holds, each as of the head. It belongs to the batcher.
type accounts struct {
	head eventstore.Head
	// known is false when nothing is known, not even the head.
	known bool
	cache *simplelru.LRU[uuid.UUID, *held]
}

// held is an account as of the head. Its zero value is an account without events.
type held struct {
	state account.State
	// version, position and last are those of its last event; last is the event's id.
	version, position int64
	last              uuid.UUID
	// saved is the version of its last snapshot, 0 for none.
	saved int64
	// err, when not nil, says why the account's events cannot be folded: a newer release wrote them, or the log is damaged.
	// Commands on the account fail with it, and no others. Such an account is never cached.
	err error
}

// history is the part of the log that accounts are read from.
type history interface {
	Last(ctx context.Context) (eventstore.Head, error)
	LoadSnapshots(ctx context.Context, streams []uuid.UUID) ([]eventstore.Snapshot, error)
	ReadStreams(ctx context.Context, cursors []eventstore.Cursor, upTo int64, each func(*eventstore.Event) error) error
}

// forget forgets everything.
func (a *accounts) forget() {
	a.cache.Purge()
	a.head, a.known = eventstore.Head{}, false
}

// takeHead reads the log's head if none is known.
func (a *accounts) takeHead(ctx context.Context, log history) (err error) {
	if !a.known {
		a.head, err = log.Last(ctx)
		a.known = err == nil
	}
	return err
}

// follow brings the accounts and the head up to date with events as ReadFrom(head, maxFollowed) returns them. Everything is
// forgotten when they do not follow on the head, because the log has lost its event, and when there are too many.
func (a *accounts) follow(events []eventstore.Event) {
	if len(events) == maxFollowed {
		a.forget()
		return
	}
	if a.head.Position > 0 {
		if len(events) == 0 || events[0].Position != a.head.Position || events[0].EventID != a.head.EventID {
			a.forget()
			return
		}
		events = events[1:]
	}
	for i := range events {
		e := &events[i]
		if e.Position != a.head.Position+1 {
			a.forget()
			return
		}
		if h, ok := a.cache.Peek(e.StreamID); ok {
			if h.evolve(e); h.err != nil {
				a.cache.Remove(e.StreamID)
			}
		}
		a.head = eventstore.Head{Position: e.Position, EventID: e.EventID}
	}
}

// load returns the accounts as of the head, to be changed by the caller. Those that are not held are read from the log, up to
// the head and no further. It returns errMoved when an account has a snapshot beyond the head; with atEnd, when the head
// cannot be behind, such a snapshot is passed over.
func (a *accounts) load(ctx context.Context, log history, ids map[uuid.UUID]*held, atEnd bool) error {
	var missing []uuid.UUID
	for id := range ids {
		if h, ok := a.cache.Get(id); ok {
			state := *h
			ids[id] = &state
		} else {
			ids[id] = new(held)
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	snapshots, err := log.LoadSnapshots(ctx, missing)
	if err != nil {
		return err
	}
	for i := range snapshots {
		s := &snapshots[i]
		if s.Position > a.head.Position {
			if !atEnd {
				return errMoved
			}
			continue
		}
		if state, err := eventjson.UnmarshalState(s.State); err == nil { // else another release wrote it
			*ids[s.StreamID] = held{state: state, version: s.Version, position: s.Position, last: s.EventID, saved: s.Version}
		}
	}
	unfounded, err := a.read(ctx, log, missing, ids)
	if err == nil && len(unfounded) > 0 {
		for _, id := range unfounded {
			*ids[id] = held{}
		}
		_, err = a.read(ctx, log, unfounded, ids)
	}
	if err != nil {
		return err
	}
	for _, id := range missing {
		if h := ids[id]; h.err == nil && h.version > 0 {
			cached := *h
			a.cache.Add(id, &cached)
		}
	}
	return nil
}

// read folds onto each account the events after it, up to the head. It returns those whose snapshot stands on an event that
// the log does not hold.
func (a *accounts) read(ctx context.Context, log history, missing []uuid.UUID, ids map[uuid.UUID]*held) ([]uuid.UUID, error) {
	cursors := make([]eventstore.Cursor, len(missing))
	founded := make(map[uuid.UUID]bool, len(missing))
	for i, id := range missing {
		h := ids[id]
		// From the event of the snapshot on, to see that it is there.
		cursors[i] = eventstore.Cursor{StreamID: id, After: max(h.version-1, 0)}
		founded[id] = h.version == 0
	}
	err := log.ReadStreams(ctx, cursors, a.head.Position, func(e *eventstore.Event) error {
		h := ids[e.StreamID]
		switch {
		case h.err != nil:
		case founded[e.StreamID]:
			h.evolve(e)
		case e.EventID == h.last && e.Position == h.position:
			founded[e.StreamID] = true
		}
		return nil //nolint:nilerr // an account that cannot be folded keeps its error
	})
	if err != nil {
		return nil, err
	}
	var unfounded []uuid.UUID
	for id, ok := range founded {
		if !ok {
			unfounded = append(unfounded, id)
		}
	}
	return unfounded, nil
}

// keep takes accounts as a batch that was written has left them, and the new head.
func (a *accounts) keep(ids map[uuid.UUID]*held, head eventstore.Head) {
	for id, h := range ids {
		if h.err == nil && h.position > a.head.Position {
			a.cache.Add(id, h)
		}
	}
	a.head = head
}

// evolve applies a stored event, or sets err.
func (h *held) evolve(e *eventstore.Event) {
	if e.Version != h.version+1 {
		h.err = fmt.Errorf("command: stream %s goes from version %d to %d", e.StreamID, h.version, e.Version)
		return
	}
	decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
	if err == nil {
		h.state, err = account.Evolve(h.state, decoded)
	}
	if err != nil {
		h.err = fmt.Errorf("command: event at position %d: %w", e.Position, err)
		return
	}
	h.version, h.position, h.last = e.Version, e.Position, e.EventID
}
