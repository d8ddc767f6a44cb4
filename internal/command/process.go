package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// round is one pass over a batch: every unit decided in order, each on what the ones before it left.
type round struct {
	// overlay holds the aggregates as the units decided so far leave them.
	overlay map[uuid.UUID]aggregate
	// fresh holds the accounts read from the log since the batch was taken up.
	fresh map[uuid.UUID]aggregate
	// lost says that the log the batch was decided on is not the one it was appended to.
	lost bool
}

// decision is what became of a unit in a round: events to append, or the reason why not.
type decision struct {
	of       *unit
	unit     eventstore.Unit
	recorded [][]Recorded // one entry a request, positions still open
	err      error
}

func (s *Service) finishAll(open []*unit, err error) {
	for _, u := range open {
		s.finish(u, nil, err)
	}
}

// pass decides and appends the units once. It answers those that are settled and returns those that lost a race, with
// their accounts brought up to date. On an error nothing has been answered.
func (s *Service) pass(ctx context.Context, open []*unit, fresh map[uuid.UUID]aggregate) ([]*unit, error) {
	decisions, r, err := s.decideAll(ctx, open, fresh)
	if err != nil {
		return nil, err
	}
	stored, err := s.keysOfRefused(ctx, decisions)
	if err != nil {
		return nil, err
	}
	var results []eventstore.UnitResult
	if units := unitsOf(decisions); len(units) > 0 {
		if results, r.lost, err = s.append(ctx, units); err != nil {
			return nil, err
		}
	}
	return s.settle(ctx, decisions, results, stored, r), nil
}

// passLocked is pass while nobody else can append.
func (s *Service) passLocked(ctx context.Context, open []*unit, fresh map[uuid.UUID]aggregate) ([]*unit, error) {
	var (
		decisions []decision
		r         *round
		stored    map[[16]byte]eventstore.StoredKey
		results   []eventstore.UnitResult
	)
	log := s.store
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := log.Locked(limited, func(locked *eventstore.Store) (err error) {
		s.store = locked
		defer func() { s.store = log }()
		clear(fresh) // it was read before
		if err = s.refresh(limited, accountsOfAll(open), fresh); err != nil {
			return err
		}
		if decisions, r, err = s.decideAll(limited, open, fresh); err != nil {
			return err
		}
		if stored, err = s.keysOfRefused(limited, decisions); err != nil {
			return err
		}
		if units := unitsOf(decisions); len(units) > 0 {
			results, r.lost, err = s.append(limited, units)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.settle(ctx, decisions, results, stored, r), nil
}

func accountsOfAll(units []*unit) []uuid.UUID {
	accounts := make(map[uuid.UUID]bool)
	for _, u := range units {
		for i := range u.requests {
			for _, id := range accountsOf(&u.requests[i]) {
				accounts[id] = true
			}
		}
	}
	return slices.Collect(maps.Keys(accounts))
}

// settle answers what the append decided, keeps the aggregates it confirmed, and returns the units that are to be
// decided again: those that conflicted, and those refused on a state that one of the batch's losers had a part in,
// since that state never was.
func (s *Service) settle(ctx context.Context, decisions []decision, results []eventstore.UnitResult,
	stored map[[16]byte]eventstore.StoredKey, r *round,
) []*unit {
	fates, stale, head := fatesOf(decisions, results)
	if r.lost {
		s.cache.Purge()
		r.distrust(decisions, fates, stale)
	}
	s.keep(r, stale)
	if head > 0 {
		s.appended(head)
	}
	var again, duplicates, replays []*unit
	for i := range decisions {
		d := &decisions[i]
		switch fates[i] {
		case appended:
			s.finish(d.of, d.results(), nil)
		case conflicted:
			again = append(again, d.of)
		case duplicate:
			duplicates = append(duplicates, d.of)
		case refused:
			if anyStored(d.of, stored) {
				replays = append(replays, d.of)
			} else if isRefusal(d.err) && d.of.touches(stale) {
				again = append(again, d.of)
			} else {
				s.finish(d.of, nil, d.err)
			}
		}
	}
	// A refused request whose key is in the log already was applied before, whatever the rules say now.
	for _, u := range replays {
		s.answerStored(ctx, u, stored)
	}
	s.answerDuplicates(ctx, duplicates)
	if len(again) == 0 {
		return nil
	}
	clear(r.fresh) // what was read before the append is no longer
	if err := s.refresh(ctx, slices.Collect(maps.Keys(stale)), r.fresh); err != nil {
		s.forget()
		s.finishAll(again, err)
		return nil
	}
	return again
}

// fate is what became of a unit in a pass.
type fate uint8

const (
	refused fate = iota // by its decision; it was not given to the append
	appended
	conflicted
	duplicate
)

// fatesOf matches the results of the append to the decisions, and completes those it confirmed. stale holds the
// accounts of the units that lost: the overlay knows them as they never were. head is the last position written.
func fatesOf(decisions []decision, results []eventstore.UnitResult) (fates []fate, stale map[uuid.UUID]bool, head int64) {
	fates = make([]fate, len(decisions))
	stale = make(map[uuid.UUID]bool)
	next := 0
	for i := range decisions {
		d := &decisions[i]
		if d.err != nil {
			continue
		}
		result := results[next]
		next++
		switch result.Outcome {
		case eventstore.Appended:
			fates[i] = appended
			head = result.First + int64(len(d.unit.Events)) - 1
			d.complete(result)
			continue
		case eventstore.Conflict:
			fates[i] = conflicted
		case eventstore.Duplicate:
			fates[i] = duplicate
		}
		for j := range d.unit.Events {
			stale[d.unit.Events[j].StreamID] = true
		}
	}
	return fates, stale, head
}

// distrust makes stale every account of the round but those that the append has confirmed.
func (r *round) distrust(decisions []decision, fates []fate, stale map[uuid.UUID]bool) {
	confirmed := make(map[uuid.UUID]bool)
	for i := range decisions {
		if fates[i] == appended {
			for j := range decisions[i].unit.Events {
				confirmed[decisions[i].unit.Events[j].StreamID] = true
			}
		}
	}
	for id := range r.overlay {
		if !confirmed[id] {
			stale[id] = true
		}
	}
}

// touches reports whether one of the unit's requests is about one of the accounts.
func (u *unit) touches(accounts map[uuid.UUID]bool) bool {
	for i := range u.requests {
		for _, id := range accountsOf(&u.requests[i]) {
			if accounts[id] {
				return true
			}
		}
	}
	return false
}

// results are the answers to the unit's requests, once complete.
func (d *decision) results() []Result {
	all := make([]Result, len(d.recorded))
	for i := range d.recorded {
		all[i].Events = d.recorded[i]
	}
	return all
}

// keep takes the aggregates that the append confirmed into the cache. Of an account that a losing unit touched, the
// cache keeps the state from before the batch: true once, and refresh continues from it.
func (s *Service) keep(r *round, stale map[uuid.UUID]bool) {
	for id, a := range r.overlay {
		if a.version > 0 && !stale[id] {
			s.remember(id, &a)
		}
	}
}

// answerDuplicates answers units whose key was found taken by the append.
func (s *Service) answerDuplicates(ctx context.Context, units []*unit) {
	if len(units) == 0 {
		return
	}
	stored, err := s.lookup(ctx, units)
	for _, u := range units {
		switch {
		case err != nil:
			s.finish(u, nil, err)
		case !anyStored(u, stored):
			// Taken a moment ago and expired since: as good as a lost race.
			s.finish(u, nil, ErrContended)
		default:
			s.answerStored(ctx, u, stored)
		}
	}
}

// answerStored answers a unit one of whose keys the log holds: with the first answers when all its keys are there and
// came with the same requests, otherwise with ErrKeyReused.
func (s *Service) answerStored(ctx context.Context, u *unit, stored map[[16]byte]eventstore.StoredKey) {
	results := make([]Result, len(u.requests))
	for i := range u.requests {
		k := u.requests[i].Key
		if k == nil {
			s.finish(u, nil, ErrKeyReused)
			return
		}
		key, ok := stored[k.Hash]
		if !ok || key.Fingerprint != k.Fingerprint {
			s.finish(u, nil, ErrKeyReused)
			return
		}
		var err error
		if results[i], err = s.firstAnswer(ctx, key); err != nil {
			s.finish(u, nil, err)
			return
		}
	}
	s.finish(u, results, nil)
}

// firstAnswer is the result of the request that a key came with first, made of the events it recorded.
func (s *Service) firstAnswer(ctx context.Context, key eventstore.StoredKey) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	events, err := s.store.ReadAfter(ctx, key.First-1, key.Count)
	if err != nil {
		return Result{}, err
	}
	if len(events) != key.Count || key.Count == 0 || events[0].Position != key.First {
		return Result{}, fmt.Errorf("command: an idempotency key answers for %d events from position %d, which the log does not hold",
			key.Count, key.First)
	}
	result := Result{Replayed: true}
	for i := range events {
		e, err := account.Decode(events[i].Type, events[i].SchemaVersion, events[i].Payload)
		if err != nil {
			return Result{}, fmt.Errorf("command: event at position %d: %w", events[i].Position, err)
		}
		result.Events = append(result.Events, Recorded{
			AccountID: events[i].StreamID, EventID: events[i].EventID, Position: events[i].Position,
			Version: events[i].Version, RecordedAt: events[i].RecordedAt, Event: e,
		})
	}
	return result, nil
}

// keysOfRefused looks up the keys of the requests that the rules refused.
func (s *Service) keysOfRefused(ctx context.Context, decisions []decision) (map[[16]byte]eventstore.StoredKey, error) {
	var refused []*unit
	for i := range decisions {
		if decisions[i].err != nil {
			refused = append(refused, decisions[i].of)
		}
	}
	return s.lookup(ctx, refused)
}

func (s *Service) lookup(ctx context.Context, units []*unit) (map[[16]byte]eventstore.StoredKey, error) {
	var hashes [][16]byte
	for _, u := range units {
		for i := range u.requests {
			if k := u.requests[i].Key; k != nil {
				hashes = append(hashes, k.Hash)
			}
		}
	}
	if len(hashes) == 0 {
		return nil, nil
	}
	callCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	keys, err := s.store.LookupKeys(callCtx, hashes)
	if err != nil {
		return nil, err
	}
	stored := make(map[[16]byte]eventstore.StoredKey, len(keys))
	for _, k := range keys {
		stored[k.Hash] = k
	}
	return stored, nil
}

func anyStored(u *unit, stored map[[16]byte]eventstore.StoredKey) bool {
	for i := range u.requests {
		if k := u.requests[i].Key; k != nil {
			if _, ok := stored[k.Hash]; ok {
				return true
			}
		}
	}
	return false
}

// isRefusal tells the errors that rest on the state of an account from those that do not.
func isRefusal(err error) bool {
	var refusal *account.Refusal
	var version *VersionError
	return errors.As(err, &refusal) || errors.As(err, &version) ||
		errors.Is(err, account.ErrNotFound) || errors.Is(err, account.ErrExists)
}
