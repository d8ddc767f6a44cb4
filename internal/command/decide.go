package command

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// batch collects the events and keys of groups. Each group is decided on the accounts as the groups before it leave them.
type batch struct {
	eventstore.Batch
	known  // after the groups decided so far
	now    time.Time
	head   eventstore.Head
	groups []*group
	firsts map[[16]byte]first
	failed bool   // a group with keys has failed: they are not in the batch, so the append cannot tell whether they are stored
	undo   []undo // of the group being decided
	// encoded is the JSON of metadata, which the events of one bulk call share.
	metadata Metadata
	encoded  []byte
}

// first is the first occurrence of a key in the batch: its fingerprint, and the result of its request or the refusal.
type first struct {
	fingerprint [16]byte
	result      Result
	refusal     []byte
}

// decide decides the groups at the time now on what is known, and updates known. It stores each group's answer in the group,
// without the times of its events. The answers are valid once the batch is appended.
func decide(now time.Time, head eventstore.Head, known known, groups []*group) *batch {
	b := &batch{known: known, now: now, head: head, groups: groups, firsts: make(map[[16]byte]first)}
	b.Events = make([]eventstore.NewEvent, 0, len(groups))
	for _, g := range groups {
		g.err = b.decideGroup(g)
	}
	return b
}

// decideGroup decides the requests of a group in order. If one is refused the error is an *ItemError, and the batch keeps only
// the refusal with its key. It keeps nothing of a dry run.
func (b *batch) decideGroup(g *group) error {
	g.results = make([]Result, len(g.requests))
	events, keys := len(b.Events), len(b.Keys)
	b.undo = b.undo[:0]
	for i := range g.requests {
		err := b.decideRequest(&g.requests[i], &g.results[i])
		if err == nil {
			continue
		}
		b.takeBack(events, keys)
		b.keepRefusal(g.requests[i].key(), err)
		for j := range g.requests {
			b.failed = b.failed || j != i && g.requests[j].key() != nil
		}
		return &ItemError{Index: i, Err: err}
	}
	if g.dryRun() {
		b.takeBack(events, keys)
	}
	return nil
}

// takeBack removes the group being decided from the batch, which had the given numbers of events and keys before it.
func (b *batch) takeBack(events, keys int) {
	for _, u := range slices.Backward(b.undo) {
		*b.accounts[u.AccountID] = u.before
		b.index.Undo(u.AccountID, u.Event)
	}
	for _, k := range b.Keys[keys:] {
		delete(b.firsts, k.Hash)
	}
	b.Events, b.Keys = b.Events[:events], b.Keys[:keys]
}

// undo is an event, and its account before it.
type undo struct {
	account.Entry
	before held
}

// keepRefusal stores the answer with the key if err is a refusal. It stores no other error, but sets failed, because the key may
// have been stored before.
func (b *batch) keepRefusal(k *Key, err error) {
	switch {
	case k == nil:
		return
	case !isRefusal(err):
		b.failed = true
		return
	}
	answer := k.Refusal(err)
	b.firsts[k.Hash] = first{fingerprint: k.Fingerprint, refusal: answer}
	b.Keys = append(b.Keys, eventstore.Key{Hash: k.Hash, Fingerprint: k.Fingerprint, Refusal: answer})
}

func (b *batch) decideRequest(req *Request, result *Result) error {
	if k := req.key(); k != nil {
		if f, again := b.firsts[k.Hash]; again {
			return repeat(k, f, result)
		}
	}
	begin := len(b.Events)
	if err := b.decideCommand(req, result); err != nil {
		return err
	}
	if k := req.key(); k != nil {
		b.firsts[k.Hash] = first{fingerprint: k.Fingerprint, result: Result{Events: result.Events, Replayed: true}}
		b.Keys = append(b.Keys, eventstore.Key{
			Hash: k.Hash, Fingerprint: k.Fingerprint, First: begin, Count: len(b.Events) - begin,
		})
	}
	return nil
}

// repeat answers a request whose key occurs again in the batch with the answer of its first occurrence.
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

func (b *batch) decideCommand(req *Request, result *Result) error {
	id, other := b.index.Accounts(req.AccountID, req.Command)
	a := b.accounts[id]
	switch {
	case a.err != nil:
		return a.err
	case b.unread != nil && account.NamesAny(req.Command):
		return b.unread
	case req.IfVersions != nil && !slices.Contains(req.IfVersions, a.version):
		if a.version == 0 {
			return account.MissingError(id, req.Command)
		}
		return &VersionError{Have: a.version, Want: req.IfVersions}
	case other != nil && b.accounts[*other].err != nil:
		return b.accounts[*other].err
	}
	c, err := b.index.Complete(id, req.Command, newID)
	if err != nil {
		return err
	}
	entries, err := account.Decide(b.now, id, c, func(id uuid.UUID) account.State { return b.accounts[id].state })
	if err != nil {
		return err
	}
	result.Events = make([]Recorded, 0, len(entries))
	for _, e := range entries {
		if err := b.add(e.AccountID, e.Event, req.Metadata, result); err != nil {
			return err
		}
	}
	if req.DryRun {
		result.After = a.state
		for i := range result.Events {
			result.Events[i].Position, result.Events[i].EventID = 0, uuid.Nil
		}
	}
	return nil
}

// add adds an event to the batch and applies it to its account.
func (b *batch) add(id uuid.UUID, e account.Event, m Metadata, result *Result) error {
	a := b.accounts[id]
	state, err := account.Evolve(a.state, e)
	if err != nil {
		return fmt.Errorf("command: apply a decided event: %w", err)
	}
	encoded, err := eventjson.Encode(e)
	if err != nil {
		return fmt.Errorf("command: encode %s: %w", e.EventType(), err)
	}
	eventID := newID()
	b.undo = append(b.undo, undo{account.Entry{AccountID: id, Event: e}, *a})
	b.index.Apply(id, e)
	a.state, a.version = state, a.version+1
	a.position = b.head.Position + int64(len(b.Events)) + 1
	metadata, err := b.metadataOf(a, m)
	if err != nil {
		return fmt.Errorf("command: metadata: %w", err)
	}
	b.Events = append(b.Events, eventstore.NewEvent{
		StreamID: id, Version: a.version, EventID: eventID,
		Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload, Metadata: metadata,
		SubjectID: state.SubjectID,
	})
	result.Events = append(result.Events, Recorded{
		AccountID: id, EventID: eventID, Position: a.position, Version: a.version, Event: e,
	})
	return nil
}

// newID returns an id that sorts after earlier ones, which keeps indexes dense. Go's source of randomness does not fail.
func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// metadataOf returns the metadata of an account's event: m, and a snapshot if one is due.
func (b *batch) metadataOf(a *held, m Metadata) (_ []byte, err error) {
	if a.version-a.snapshot >= eventstore.SnapshotEvery {
		a.snapshot = a.version
		return m.EncodeSnapshot(a.state)
	}
	if m != b.metadata {
		if b.encoded, err = m.Encode(); err != nil {
			return nil, err
		}
		b.metadata = m
	}
	return b.encoded, nil
}

// end returns the log's head once the batch is appended.
func (b *batch) end() eventstore.Head {
	n := len(b.Events)
	if n == 0 {
		return b.head
	}
	return eventstore.Head{Position: b.head.Position + int64(n), EventID: b.Events[n-1].EventID}
}

// recorded sets the time of the append in the results.
func (b *batch) recorded(at time.Time) {
	for _, g := range b.groups {
		if g.err != nil || g.dryRun() {
			continue
		}
		for _, result := range g.results {
			for j := range result.Events { // a replay shares the events of its first occurrence
				result.Events[j].RecordedAt = at
			}
		}
	}
}
