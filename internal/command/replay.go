package command

import (
	"context"
	"fmt"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// firstAnswer is the answer that a group was given when its keys were stored: the results when all of them stand for
// successes of the same requests, the refusal when one of them does. Anything else is ErrKeyReused.
func (s *Service) firstAnswer(ctx context.Context, g *group, stored map[[16]byte]*eventstore.StoredKey) ([]Result, error) {
	whole := true
	for i := range g.requests {
		k := g.requests[i].Key
		if k == nil || stored[k.Hash] == nil {
			whole = false
			continue
		}
		switch first := stored[k.Hash]; {
		case first.Fingerprint != k.Fingerprint:
			return nil, ErrKeyReused
		case first.Refusal != nil:
			return nil, &ItemError{Index: i, Err: &RefusedBefore{first.Refusal}}
		}
	}
	if !whole {
		return nil, ErrKeyReused
	}
	results := make([]Result, len(g.requests))
	for i := range g.requests {
		var err error
		if results[i], err = s.firstResult(ctx, stored[g.requests[i].Key.Hash]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// firstResult is the result of the request that a key came with first, made of the events it recorded.
func (s *Service) firstResult(ctx context.Context, key *eventstore.StoredKey) (Result, error) {
	events, err := s.store.ReadAfter(ctx, key.First-1, key.Count)
	if err != nil {
		return Result{}, err
	}
	if len(events) != key.Count || events[0].Position != key.First {
		return Result{}, fmt.Errorf("command: an idempotency key answers for %d events from position %d, which the log does not hold",
			key.Count, key.First)
	}
	result := Result{Replayed: true, Events: make([]Recorded, len(events))}
	for i := range events {
		e := &events[i]
		decoded, err := account.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			return Result{}, fmt.Errorf("command: event at position %d: %w", e.Position, err)
		}
		result.Events[i] = Recorded{
			AccountID: e.StreamID, EventID: e.EventID, Position: e.Position, Version: e.Version, RecordedAt: e.RecordedAt, Event: decoded,
		}
	}
	return result, nil
}
