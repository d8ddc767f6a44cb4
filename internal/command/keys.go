package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// isRefusal reports whether err is a refusal that is stored with the command's key and returned to every retry. Time changes "The hold
// has not expired", and attaching the archive "The movement is archived", so these are not stored.
func isRefusal(err error) bool {
	_, version := errors.AsType[*VersionError](err)
	refusal, _ := errors.AsType[*account.Refusal](err)
	passes := refusal != nil && (refusal.Code == account.CodeHoldNotExpired || refusal.Code == account.CodeMovementArchived)
	return version || account.IsRefusal(err) && !passes
}

// answerStored finishes the groups that have a stored key with their first answers, and returns the others.
func (s *Service) answerStored(ctx context.Context, open []*group) (rest []*group, err error) {
	var hashes [][16]byte
	for _, g := range open {
		for k := range g.keys() {
			hashes = append(hashes, k.Hash)
		}
	}
	keys, err := s.store.LookupKeys(ctx, hashes)
	if err != nil {
		return nil, err
	}
	stored := make(map[[16]byte]*eventstore.StoredKey, len(keys))
	for i := range keys {
		stored[keys[i].Hash] = &keys[i]
	}
	for _, g := range open {
		if slices.ContainsFunc(g.requests, func(r Request) bool { return r.key() != nil && stored[r.Key.Hash] != nil }) {
			g.results, g.err = firstAnswer(g.requests, stored)
			s.finish(g)
		} else {
			rest = append(rest, g)
		}
	}
	return rest, nil
}

// firstAnswer returns the answer that a group got when its keys were stored: the results if every key is stored with a success of
// the same request, or the refusal if one is stored with a refusal. Otherwise a key was used in another request, and the error is
// ErrKeyReused for that item. At least one of the keys must be stored.
func firstAnswer(requests []Request, stored map[[16]byte]*eventstore.StoredKey) ([]Result, error) {
	results, answered := make([]Result, len(requests)), make([]int, 0, len(requests))
	for i := range requests {
		k := requests[i].key()
		if k == nil || stored[k.Hash] == nil {
			continue
		}
		answered = append(answered, i)
		switch first := stored[k.Hash]; {
		case first.Fingerprint != k.Fingerprint:
			return nil, &ItemError{Index: i, Err: ErrKeyReused}
		case first.Refusal != nil:
			return nil, &ItemError{Index: i, Err: &RefusedBeforeError{first.Refusal}}
		default:
			var err error
			if results[i], err = firstResult(first); err != nil {
				return nil, err
			}
		}
	}
	if len(answered) < len(requests) {
		return nil, &ItemError{Index: answered[0], Err: ErrKeyReused}
	}
	return results, nil
}

// firstResult returns the result of the first request with a key, from the events it recorded.
func firstResult(key *eventstore.StoredKey) (Result, error) {
	if len(key.Events) != key.Count {
		return Result{}, fmt.Errorf("command: an idempotency key is stored for %d events from position %d, but the log has %d of them",
			key.Count, key.First, len(key.Events))
	}
	result := Result{Replayed: true, Events: make([]Recorded, key.Count)}
	for i := range key.Events {
		e := &key.Events[i]
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err = cmp.Or(e.Err, err); err != nil {
			return Result{}, fmt.Errorf("command: event at position %d: %w", e.Position, err)
		}
		result.Events[i] = Recorded{
			AccountID: e.StreamID, EventID: e.EventID, Position: e.Position, Version: e.Version, RecordedAt: e.RecordedAt, Event: decoded,
		}
	}
	return result, nil
}
