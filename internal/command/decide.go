package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// round decides the groups of a batch in order, each on what the ones before it left.
type round struct {
	head      eventstore.Head
	accounts  map[uuid.UUID]*held // as the groups decided so far leave them
	batch     eventstore.Batch
	decisions []decision
	keys      map[[16]byte]first
	failed    bool   // a request with a key failed, but not by the rules
	undo      []undo // of the group that is being decided
}

// decision is what became of a group: a result for each request, positions still open, or the reason why there is none.
type decision struct {
	group   *group
	results []Result
	err     error // an *ItemError
}

// first is where a key of the batch occurs first: its fingerprint, and the result or the stored refusal of its request.
type first struct {
	fingerprint [16]byte
	result      Result
	refusal     []byte
}

// accountsOf returns the accounts that the groups' requests are about, without their states.
func accountsOf(groups []*group) map[uuid.UUID]*held {
	ids := make(map[uuid.UUID]*held, len(groups))
	for _, g := range groups {
		for i := range g.requests {
			r := &g.requests[i]
			ids[r.AccountID] = nil
			if t, ok := r.Command.(account.Transfer); ok {
				ids[t.To] = nil
			}
		}
	}
	return ids
}

// decide decides the groups on the accounts, which it changes.
func decide(head eventstore.Head, accounts map[uuid.UUID]*held, groups []*group) *round {
	r := &round{head: head, accounts: accounts, decisions: make([]decision, 0, len(groups)), keys: make(map[[16]byte]first)}
	r.batch.Events = make([]eventstore.NewEvent, 0, len(groups))
	for _, g := range groups {
		r.decisions = append(r.decisions, r.decideGroup(g))
	}
	return r
}

// decideGroup decides the requests of a group in order. When one is refused, none of them leaves a trace, but for the key of
// the refused one, which keeps the refusal.
func (r *round) decideGroup(g *group) decision {
	d := decision{group: g, results: make([]Result, len(g.requests))}
	events, keys := len(r.batch.Events), len(r.batch.Keys)
	r.undo = r.undo[:0]
	for i := range g.requests {
		err := r.decideRequest(&g.requests[i], &d.results[i])
		if err == nil {
			continue
		}
		for _, u := range slices.Backward(r.undo) {
			*r.accounts[u.id] = u.before
		}
		for _, k := range r.batch.Keys[keys:] {
			delete(r.keys, k.Hash)
		}
		r.batch.Events, r.batch.Keys = r.batch.Events[:events], r.batch.Keys[:keys]
		r.keepRefusal(g.requests[i].Key, err)
		return decision{group: g, err: &ItemError{Index: i, Err: err}}
	}
	return d
}

// undo is an account as it was before an event.
type undo struct {
	id     uuid.UUID
	before held
}

// keepRefusal stores the answer with the key if the rules refused. Other errors are not stored, but the key may have been stored
// before.
func (r *round) keepRefusal(k *Key, err error) {
	switch {
	case k == nil:
		return
	case !isRefusal(err):
		r.failed = true
		return
	}
	answer := k.Refusal(err)
	r.keys[k.Hash] = first{fingerprint: k.Fingerprint, refusal: answer}
	r.batch.Keys = append(r.batch.Keys, eventstore.Key{Hash: k.Hash, Fingerprint: k.Fingerprint, Refusal: answer})
}

// isRefusal reports whether the rules have decided, so that the answer is the first and only one.
func isRefusal(err error) bool {
	var refusal *account.Refusal
	var version *VersionError
	return errors.As(err, &refusal) || errors.As(err, &version) ||
		errors.Is(err, account.ErrNotFound) || errors.Is(err, account.ErrExists)
}

func (r *round) decideRequest(req *Request, result *Result) error {
	if k := req.Key; k != nil {
		if f, again := r.keys[k.Hash]; again {
			return repeat(k, f, result)
		}
	}
	begin := len(r.batch.Events)
	if err := r.decideCommand(req, result); err != nil {
		return err
	}
	if k := req.Key; k != nil {
		r.keys[k.Hash] = first{fingerprint: k.Fingerprint, result: Result{Events: result.Events, Replayed: true}}
		r.batch.Keys = append(r.batch.Keys, eventstore.Key{
			Hash: k.Hash, Fingerprint: k.Fingerprint, First: begin, Count: len(r.batch.Events) - begin,
		})
	}
	return nil
}

// repeat answers a request whose key occurs for the second time in the batch as a replay of the first.
func repeat(k *Key, f first, result *Result) error {
	switch {
	case f.fingerprint != k.Fingerprint:
		return ErrKeyReused
	case f.refusal != nil:
		return &RefusedBeforeError{f.refusal}
	}
	*result = f.result
	return nil
}

func (r *round) decideCommand(req *Request, result *Result) error {
	a := r.accounts[req.AccountID]
	if a.err != nil {
		return a.err
	}
	transfer, isTransfer := req.Command.(account.Transfer)
	if req.IfVersions != nil && !slices.Contains(req.IfVersions, a.version) {
		switch {
		case a.version > 0:
			return &VersionError{Have: a.version, Want: req.IfVersions}
		case isTransfer:
			return &account.NotFoundError{AccountID: req.AccountID}
		}
		return account.ErrNotFound
	}
	if isTransfer {
		to := r.accounts[transfer.To]
		if to.err != nil {
			return to.err
		}
		sent, received, err := account.DecideTransfer(req.AccountID, a.state, to.state, transfer)
		if err != nil {
			return err
		}
		result.Events = make([]Recorded, 0, 2)
		if err := r.add(req.AccountID, sent, req.Metadata, result); err != nil {
			return err
		}
		return r.add(transfer.To, received, req.Metadata, result)
	}
	events, err := account.Decide(a.state, req.Command)
	if err != nil {
		return err
	}
	result.Events = make([]Recorded, 0, len(events))
	for _, e := range events {
		if err := r.add(req.AccountID, e, req.Metadata, result); err != nil {
			return err
		}
	}
	return nil
}

// add adds an event to the batch and moves its account on by it.
func (r *round) add(id uuid.UUID, e account.Event, m Metadata, result *Result) error {
	a := r.accounts[id]
	state, err := account.Evolve(a.state, e)
	if err != nil {
		return fmt.Errorf("command: a decision that its own account cannot follow: %w", err)
	}
	encoded, err := eventjson.Encode(e)
	if err != nil {
		return fmt.Errorf("command: encode %s: %w", e.EventType(), err)
	}
	eventID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("command: event id: %w", err)
	}
	r.undo = append(r.undo, undo{id, *a})
	a.state, a.version = state, a.version+1
	a.position = r.head.Position + int64(len(r.batch.Events)) + 1
	stored := storedMetadata{Metadata: m}
	if a.version-a.snapshot >= eventstore.SnapshotEvery {
		if stored.State, err = eventjson.MarshalState(a.state); err != nil {
			return fmt.Errorf("command: snapshot: %w", err)
		}
		a.snapshot = a.version
	}
	metadata, err := stored.encode()
	if err != nil {
		return fmt.Errorf("command: metadata: %w", err)
	}
	r.batch.Events = append(r.batch.Events, eventstore.NewEvent{
		StreamID: id, Version: a.version, EventID: eventID,
		Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload, Metadata: metadata,
	})
	result.Events = append(result.Events, Recorded{
		AccountID: id, EventID: eventID, Position: a.position, Version: a.version, Event: e,
	})
	return nil
}

// end is the head that the log has once the batch is written.
func (r *round) end() eventstore.Head {
	n := len(r.batch.Events)
	if n == 0 {
		return r.head
	}
	return eventstore.Head{Position: r.head.Position + int64(n), EventID: r.batch.Events[n-1].EventID}
}

// recorded fills in what only the append could tell.
func (r *round) recorded(at time.Time) {
	for i := range r.decisions {
		for _, result := range r.decisions[i].results {
			for j := range result.Events { // those of a replay are those of its first, and get the same time twice
				result.Events[j].RecordedAt = at
			}
		}
	}
}

// encode renders the metadata as a JSON object, nil when it is empty. Where a command came from may be inexact, but must not fail
// it, nor with it the batch: NUL, which jsonb cannot hold, is left out, and invalid UTF-8 replaced.
func (m *storedMetadata) encode() ([]byte, error) {
	if m.Metadata == (Metadata{}) && m.State == nil {
		return nil, nil
	}
	for _, field := range []*string{&m.CorrelationID, &m.CausationID, &m.Actor, &m.Traceparent} {
		*field = strings.ReplaceAll(*field, "\x00", "")
	}
	return json.Marshal(m, jsontext.AllowInvalidUTF8(true))
}
