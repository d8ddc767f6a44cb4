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
	// version and position are those of its last event, snapshot is the version of the last one that carries a snapshot.
	version, position, snapshot int64
	// err, when not nil, says why the account's events cannot be folded: a newer release wrote them, or the log is damaged.
	// Commands on the account fail with it, and no others. Such an account is never cached.
	err error
}

// history is the part of the log that accounts are read from.
type history interface {
	Last(ctx context.Context) (eventstore.Head, error)
	ReadStreams(ctx context.Context, streams []uuid.UUID, upTo int64, snapshot string, each func(*eventstore.Event) error) error
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

// follow brings the accounts and the head up to date with at most maxFollowed events, from the one at the head's position on. Everything is
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
// the head and no further.
func (a *accounts) load(ctx context.Context, log history, ids map[uuid.UUID]*held) error {
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
	err := log.ReadStreams(ctx, missing, a.head.Position, snapshotPattern, func(e *eventstore.Event) error {
		ids[e.StreamID].evolve(e)
		return nil
	})
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

// keep takes accounts as a batch that was written has left them, and the new head.
func (a *accounts) keep(ids map[uuid.UUID]*held, head eventstore.Head) {
	for id, h := range ids {
		if h.err == nil && h.position > a.head.Position {
			a.cache.Add(id, h)
		}
	}
	a.head = head
}

// evolve applies a stored event, or sets err. A stream that is read from a snapshot begins with its state.
func (h *held) evolve(e *eventstore.Event) {
	switch {
	case h.err != nil:
		return
	case h.version == 0 && e.Version > 1:
		h.state, h.err = snapshotOf(e)
		h.snapshot = e.Version
	case e.Version != h.version+1:
		h.err = fmt.Errorf("command: stream %s goes from version %d to %d", e.StreamID, h.version, e.Version)
	default:
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err == nil {
			h.state, err = account.Evolve(h.state, decoded)
		}
		if err != nil {
			h.err = fmt.Errorf("command: event at position %d: %w", e.Position, err)
		}
	}
	h.version, h.position = e.Version, e.Position
}
