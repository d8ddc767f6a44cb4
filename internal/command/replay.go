package command

import (
	"fmt"

	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// firstAnswer returns the answer that a group was given when its keys were stored: the results when all of them stand for
// successes of the same requests, the refusal when one of them does. Otherwise a key was used in another request, and the error
// is ErrKeyReused for that item.
func firstAnswer(g *group, stored map[[16]byte]*eventstore.StoredKey) ([]Result, error) {
	results, answered := make([]Result, len(g.requests)), make([]int, 0, len(g.requests))
	for i := range g.requests {
		k := g.requests[i].Key
		if k == nil || stored[k.Hash] == nil {
			continue
		}
		first := stored[k.Hash]
		answered = append(answered, i)
		switch {
		case first.Fingerprint != k.Fingerprint:
			return nil, &ItemError{Index: i, Err: ErrKeyReused}
		case first.Refusal != nil:
			return nil, &ItemError{Index: i, Err: &RefusedBeforeError{first.Refusal}}
		}
		var err error
		if results[i], err = firstResult(first); err != nil {
			return nil, err
		}
	}
	if len(answered) < len(g.requests) {
		return nil, &ItemError{Index: answered[0], Err: ErrKeyReused}
	}
	return results, nil
}

// firstResult returns the result of the request that a key came with first, made of the events it recorded.
func firstResult(key *eventstore.StoredKey) (Result, error) {
	if len(key.Events) != key.Count {
		return Result{}, fmt.Errorf("command: an idempotency key answers for %d events from position %d, which the log does not hold",
			key.Count, key.First)
	}
	result := Result{Replayed: true, Events: make([]Recorded, key.Count)}
	for i := range key.Events {
		e := &key.Events[i]
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			return Result{}, fmt.Errorf("command: event at position %d: %w", e.Position, err)
		}
		result.Events[i] = Recorded{
			AccountID: e.StreamID, EventID: e.EventID, Position: e.Position, Version: e.Version, RecordedAt: e.RecordedAt, Event: decoded,
		}
	}
	return result, nil
}
