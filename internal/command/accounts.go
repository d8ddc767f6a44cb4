package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// maxFollowed is how many events an instance applies to catch up. If it is further behind, emptying the cache is cheaper.
const maxFollowed = 4096

// accounts is the account cache: accounts as of the head. It belongs to the batcher.
type accounts struct {
	head eventstore.Head
	// headKnown is false until the first load, and after forget: the cache is then empty.
	headKnown bool
	cache     *simplelru.LRU[uuid.UUID, *held]
	// unsealed are the accounts that the batch cannot change, because their events cannot be encoded.
	unsealed eventstore.UnsealedError
}

// held is an account as of the head. Its zero value is an account without events.
type held struct {
	state account.State
	// version and position are those of the last event, snapshot is the version of the last one with a snapshot.
	version, position, snapshot int64
	// err, if not nil, says why the account's events cannot be folded: a newer release wrote them, the log is damaged, or the key of
	// their text is missing. Only commands on this account fail with it. Such an account is never cached.
	err error
}

// forget empties the cache and forgets the head.
func (a *accounts) forget() {
	a.cache.Purge()
	a.head, a.headKnown = eventstore.Head{}, false
}

// follow brings the accounts and the head up to date with at most maxFollowed events, the first of which is the one at the head.
// It forgets everything if the log no longer contains that event, or if there are too many.
func (a *accounts) follow(events []eventstore.Event) {
	begun := a.head.Position > 0
	lost := begun && (len(events) == 0 || events[0].Position != a.head.Position || events[0].EventID != a.head.EventID)
	if lost || len(events) == maxFollowed {
		a.forget()
		return
	}
	if begun {
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

// known is what the requests of a batch are decided on.
type known struct {
	accounts map[uuid.UUID]*held
	index    *account.Index
	// unread, if not nil, says why an event that requests name cannot be read. All requests that name one fail with it.
	unread error
}

// load returns what is known as of the head: copies of the accounts that the groups' requests concern, and an index of what they
// name. It reads the accounts that are not cached from the log, up to the head. If the head is unknown, it reads that first.
func (a *accounts) load(ctx context.Context, l log, groups []*group) (_ known, err error) {
	if !a.headKnown {
		if a.head, err = l.Last(ctx); err != nil {
			return known{}, err
		}
		a.headKnown = true
	}
	k := known{accounts: make(map[uuid.UUID]*held, len(groups)), index: account.NewIndex()}
	if err := a.readNamed(ctx, l, groups, &k); err != nil {
		return k, err
	}
	var missing [][16]byte
	add := func(id uuid.UUID) {
		if k.accounts[id] != nil {
			return
		}
		k.accounts[id] = new(held)
		if h, ok := a.cache.Get(id); ok {
			*k.accounts[id] = *h
		} else {
			missing = append(missing, id)
		}
		k.accounts[id].err = a.unsealed[id]
	}
	for _, g := range groups {
		for i := range g.requests {
			own, other := k.index.Accounts(g.requests[i].AccountID, g.requests[i].Command)
			add(own)
			if other != nil {
				add(*other)
			}
		}
	}
	if len(missing) == 0 {
		return k, nil
	}
	err = l.ReadStreams(ctx, missing, a.head.Position, eventjson.SnapshotPattern, func(e *eventstore.Event) error {
		k.accounts[e.StreamID].evolve(e)
		return nil
	})
	if err != nil {
		return k, err
	}
	for _, id := range missing {
		h := *k.accounts[id]
		if h.err == nil && h.version > 0 {
			a.cache.Add(id, &h)
		} else if errors.Is(h.err, eventjson.ErrGap) {
			if first, err := l.Begin(ctx); err != nil || h.position < first {
				k.accounts[id].err = cmp.Or(err, fmt.Errorf("%w: account %s", ErrArchived, uuid.UUID(id)))
			}
		}
	}
	return k, nil
}

// readNamed adds the events with the ids and positions that the requests name to the index.
func (a *accounts) readNamed(ctx context.Context, l log, groups []*group, k *known) error {
	for _, g := range groups {
		for i := range g.requests {
			k.index.Want(g.requests[i].Command)
		}
	}
	named := eventstore.Named(k.index.Wanted())
	err := l.ReadNamed(ctx, named, a.head.Position, func(e *eventstore.Event) error {
		// Its text does not matter here, so neither does e.Err.
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			k.unread = fmt.Errorf("command: event at position %d: %w", e.Position, err)
			return nil
		}
		k.index.Add(e.Position, e.StreamID, decoded)
		return nil
	})
	if err == nil && len(named.Positions) > 0 {
		k.index.Head = a.head.Position
		k.index.First, err = l.Begin(ctx)
	}
	return err
}

// keep caches the accounts that an appended batch has changed, and sets the new head.
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
	if h.err != nil {
		return
	}
	state, err := eventjson.Fold(h.state, h.version, eventjson.Stored{
		Version: e.Version, Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload, Metadata: e.Metadata,
	})
	if err = cmp.Or(e.Err, err); err != nil {
		h.err = fmt.Errorf("command: event at position %d: %w", e.Position, err)
		return
	}
	if h.version == 0 && e.Version > 1 {
		h.snapshot = e.Version
	}
	h.state, h.version, h.position = state, e.Version, e.Position
}
