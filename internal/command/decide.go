package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// decideAll decides every unit of a pass in order. A refusal is final only when it rests on states read since the
// batch was taken up: the accounts of a unit refused on a cached state are first brought up to date, and all is
// decided again. That may turn a neighbour that was accepted into one that is refused, so the second time every
// account of the batch is read, and the third decision stands.
func (s *Service) decideAll(ctx context.Context, open []*unit, fresh map[uuid.UUID]aggregate) ([]decision, *round, error) {
	r := &round{fresh: fresh}
	for first := true; ; first = false {
		if err := s.load(ctx, open, r); err != nil {
			return nil, nil, err
		}
		decisions, doubtful := r.decideOnce(open)
		if len(doubtful) == 0 {
			return decisions, r, nil
		}
		if !first {
			doubtful = r.unread()
		}
		if err := s.refresh(ctx, doubtful, fresh); err != nil {
			return nil, nil, err
		}
	}
}

// unread names the accounts of the batch whose state is a cached one.
func (r *round) unread() []uuid.UUID {
	var ids []uuid.UUID
	for id := range r.overlay {
		if _, read := r.fresh[id]; !read {
			ids = append(ids, id)
		}
	}
	return ids
}

// load fills the round with the aggregates its units are about, reading those that are not cached.
func (s *Service) load(ctx context.Context, open []*unit, r *round) error {
	r.overlay = make(map[uuid.UUID]aggregate, len(open))
	var missing []uuid.UUID
	for _, p := range open {
		for i := range p.requests {
			for _, id := range accountsOf(&p.requests[i]) {
				if _, have := r.overlay[id]; have {
					continue
				}
				a, ok := r.fresh[id]
				if !ok {
					a, ok = s.cache.Get(id)
				}
				r.overlay[id] = a
				if !ok {
					missing = append(missing, id)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := s.refresh(ctx, missing, r.fresh); err != nil {
		return err
	}
	for _, id := range missing {
		r.overlay[id] = r.fresh[id]
	}
	return nil
}

// decideOnce decides the units on the overlay, and names the accounts that were refused on a state that is not fresh.
func (r *round) decideOnce(open []*unit) (decisions []decision, doubtful []uuid.UUID) {
	decisions = make([]decision, len(open))
	seen := make(map[uuid.UUID]bool)
	for i, p := range open {
		decisions[i] = r.decideUnit(p)
		if decisions[i].err == nil || !isRefusal(decisions[i].err) {
			continue
		}
		for j := range p.requests {
			for _, id := range accountsOf(&p.requests[j]) {
				if _, fresh := r.fresh[id]; !fresh && !seen[id] {
					seen[id] = true
					doubtful = append(doubtful, id)
				}
			}
		}
	}
	return decisions, doubtful
}

func accountsOf(r *Request) []uuid.UUID {
	if t, ok := r.Command.(account.Transfer); ok {
		return []uuid.UUID{r.AccountID, t.To}
	}
	return []uuid.UUID{r.AccountID}
}

// decideUnit decides the requests of a unit in order. When one is refused, none of them leaves a trace.
func (r *round) decideUnit(p *unit) decision {
	d := decision{of: p, recorded: make([][]Recorded, len(p.requests))}
	// What the accounts were before each request, undone from the last one on.
	type was struct {
		id uuid.UUID
		aggregate
	}
	before := make([]was, 0, 2)
	for i := range p.requests {
		for _, id := range accountsOf(&p.requests[i]) {
			before = append(before, was{id, r.overlay[id]})
		}
		if err := r.decideRequest(&d, i); err != nil {
			for _, one := range slices.Backward(before) {
				r.overlay[one.id] = one.aggregate
			}
			return decision{of: p, err: &ItemError{Index: i, Err: err}}
		}
	}
	return d
}

func (r *round) decideRequest(d *decision, i int) error {
	req := &d.of.requests[i]
	for _, id := range accountsOf(req) {
		if err := r.overlay[id].err; err != nil {
			return err
		}
	}
	a := r.overlay[req.AccountID]
	if req.IfVersion != nil && a.version != *req.IfVersion {
		if a.version == 0 {
			return notFound(req)
		}
		return &VersionError{Have: a.version, Want: *req.IfVersion}
	}
	first := len(d.unit.Events)
	metadata := req.Metadata.encode()
	if t, ok := req.Command.(account.Transfer); ok {
		sent, received, err := account.DecideTransfer(req.AccountID, a.state, r.overlay[t.To].state, t)
		if err != nil {
			return err
		}
		if err := r.add(d, i, req.AccountID, sent, metadata); err != nil {
			return err
		}
		if err := r.add(d, i, t.To, received, metadata); err != nil {
			return err
		}
	} else {
		events, err := account.Decide(a.state, req.Command)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := r.add(d, i, req.AccountID, e, metadata); err != nil {
				return err
			}
		}
	}
	if req.Key != nil {
		d.unit.Keys = append(d.unit.Keys, eventstore.Key{
			Hash: req.Key.Hash, Fingerprint: req.Key.Fingerprint, First: first, Count: len(d.unit.Events) - first,
		})
	}
	return nil
}

// notFound is what account would say of a request whose own account does not exist.
func notFound(r *Request) error {
	if _, ok := r.Command.(account.Transfer); ok {
		return &account.NotFoundError{AccountID: r.AccountID}
	}
	return account.ErrNotFound
}

// add appends an event to the unit and moves the overlay on by it.
func (r *round) add(d *decision, request int, id uuid.UUID, e account.Event, metadata []byte) error {
	a := r.overlay[id]
	state, err := account.Evolve(a.state, e)
	if err != nil {
		return fmt.Errorf("command: a decision that its own account cannot follow: %w", err)
	}
	encoded, err := account.Encode(e)
	if err != nil {
		return fmt.Errorf("command: encode %s: %w", e.EventType(), err)
	}
	eventID, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("command: event id: %w", err)
	}
	follows := a.last
	a = aggregate{state: state, version: a.version + 1, last: eventID, saved: a.saved}
	r.overlay[id] = a
	d.unit.Events = append(d.unit.Events, eventstore.NewEvent{
		StreamID: id, Version: a.version, Follows: follows, EventID: eventID,
		Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload, Metadata: metadata,
	})
	d.recorded[request] = append(d.recorded[request], Recorded{AccountID: id, EventID: eventID, Version: a.version, Event: e})
	return nil
}

// complete fills in what only the append could tell: the positions and the time.
func (d *decision) complete(result eventstore.UnitResult) {
	position := result.First
	for i := range d.recorded {
		for j := range d.recorded[i] {
			d.recorded[i][j].Position, d.recorded[i][j].RecordedAt = position, result.RecordedAt
			position++
		}
	}
}

// encode renders the metadata as a JSON object, nil when it is empty.
func (m *Metadata) encode() []byte {
	if *m == (Metadata{}) {
		return nil
	}
	b := []byte{'{'}
	for _, field := range [...]struct{ name, value string }{
		{`"correlation_id":`, m.CorrelationID},
		{`"causation_id":`, m.CausationID},
		{`"actor":`, m.Actor},
		{`"traceparent":`, m.Traceparent},
	} {
		if field.value == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(b, field.name...)
		// Where a command came from may be inexact, but must not fail it, nor with it the batch: NUL, which jsonb has
		// no room for, is left out, and an error of AppendQuote means invalid UTF-8, which it has replaced.
		b, _ = jsontext.AppendQuote(b, strings.ReplaceAll(field.value, "\x00", ""))
	}
	return append(b, '}')
}
