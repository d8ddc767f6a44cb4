package command

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// aggregate is an account as the write side knows it: its state after the event of that version. The zero aggregate
// is an account without events.
type aggregate struct {
	state   account.State
	version int64
	// last is the id of the event of that version: an aggregate whose version holds another event in the log belongs to
	// a past that was lost (a failover without synchronous replication), and is thrown away.
	last uuid.UUID
	// saved is the version of its last snapshot, 0 for none.
	saved int64
	// err, when not nil, says why the account's events cannot be folded (a newer release wrote them, or the log is
	// damaged). Commands on the account fail with it, and no others. Such an aggregate is never cached.
	err error
}

// refresh brings the accounts up to the log, each from what is cached, from its snapshot or from its first event, and
// enters them in fresh: there even when they have no events or events that cannot be folded, which the cache never
// holds.
func (s *Service) refresh(ctx context.Context, ids []uuid.UUID, fresh map[uuid.UUID]aggregate) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	known := make(map[uuid.UUID]aggregate, len(ids))
	var uncached []uuid.UUID
	for _, id := range ids {
		a, ok := s.cache.Peek(id)
		if known[id] = a; !ok {
			uncached = append(uncached, id)
		}
	}
	if err := s.loadSnapshots(ctx, uncached, known); err != nil {
		return err
	}
	lost, err := s.follow(ctx, known, fresh)
	if err != nil || len(lost) == 0 {
		return err
	}
	clear(known)
	for _, id := range lost {
		s.cache.Remove(id)
		known[id] = aggregate{}
	}
	_, err = s.follow(ctx, known, fresh) // from the first event nothing can be lost
	return err
}

// loadSnapshots enters the snapshots of the accounts in known. One of another release is passed over.
func (s *Service) loadSnapshots(ctx context.Context, ids []uuid.UUID, known map[uuid.UUID]aggregate) error {
	if len(ids) == 0 {
		return nil
	}
	snapshots, err := s.store.LoadSnapshots(ctx, ids)
	if err != nil {
		return err
	}
	for _, one := range snapshots {
		if state, err := account.UnmarshalState(one.State); err == nil {
			known[one.StreamID] = aggregate{state: state, version: one.Version, last: one.EventID, saved: one.Version}
		}
	}
	return nil
}

// follow folds onto each known aggregate the events after it, into the cache and fresh. It names those that rest on an
// event that the log does not hold.
func (s *Service) follow(ctx context.Context, known, fresh map[uuid.UUID]aggregate) ([]uuid.UUID, error) {
	followers := make(map[uuid.UUID]*follower, len(known))
	cursors := make([]eventstore.Cursor, 0, len(known))
	for id, a := range known {
		followers[id] = &follower{aggregate: a, sure: a.version == 0}
		// From the known version itself on, to see that it is the same event.
		cursors = append(cursors, eventstore.Cursor{StreamID: id, After: max(a.version-1, 0)})
	}
	var last eventstore.Event
	readErr := s.store.ReadStreams(ctx, cursors, func(e eventstore.Event) error {
		followers[e.StreamID].follow(&e)
		if e.Position > last.Position {
			last = e
		}
		return nil
	})
	if readErr != nil {
		return nil, readErr
	}
	if err := s.saw(ctx, &last); err != nil {
		return nil, err
	}
	var lost []uuid.UUID
	for id, f := range followers {
		switch {
		case f.lost || !f.sure:
			lost = append(lost, id)
			continue
		case f.err != nil:
			s.cache.Remove(id)
			fresh[id] = aggregate{err: f.err}
			continue
		case f.version > 0:
			s.remember(id, &f.aggregate)
		}
		fresh[id] = f.aggregate
	}
	return lost, nil
}

// maxMarks is how many marks the past may have between appends: every refusal reads, and adds one.
const maxMarks = 16

// saw takes note of what was read up to an event of the log. When the log turns out to have lost its end, nothing that the
// batch has read before is to be trusted, and the error ends it.
func (s *Service) saw(ctx context.Context, last *eventstore.Event) error {
	if last.Position == 0 {
		return nil
	}
	s.past.Saw(last.Position, last.EventID)
	if s.past.Marks() < maxMarks {
		return nil
	}
	held, err := s.store.Confirm(ctx, &s.past)
	if err == nil && !held {
		err = ErrContended
	}
	return err
}

// follower is an aggregate that is being brought up to the log.
type follower struct {
	aggregate
	sure bool // the log holds the event that the known aggregate rests on, if it rests on one
	lost bool
}

// follow takes the next event from the one on that the known aggregate rests on.
func (f *follower) follow(e *eventstore.Event) {
	switch {
	case f.err != nil, f.lost:
	case !f.sure:
		f.sure, f.lost = true, e.EventID != f.last
	default:
		f.err = f.evolve(e)
	}
}

// evolve applies a stored event to the aggregate.
func (a *aggregate) evolve(e *eventstore.Event) error {
	if e.Version != a.version+1 {
		return fmt.Errorf("command: stream %s jumps from version %d to %d", e.StreamID, a.version, e.Version)
	}
	decoded, err := account.Decode(e.Type, e.SchemaVersion, e.Payload)
	if err != nil {
		return fmt.Errorf("command: event at position %d: %w", e.Position, err)
	}
	if a.state, err = account.Evolve(a.state, decoded); err != nil {
		return fmt.Errorf("command: event at position %d: %w", e.Position, err)
	}
	a.version, a.last = e.Version, e.EventID
	return nil
}

// remember puts an aggregate that the log confirmed into the cache, and has it saved when its snapshot has fallen
// behind.
func (s *Service) remember(id uuid.UUID, a *aggregate) {
	if a.version-a.saved >= snapshotEvery && s.upkeep.add(id, *a) {
		a.saved = a.version
	}
	s.cache.Add(id, *a)
}
