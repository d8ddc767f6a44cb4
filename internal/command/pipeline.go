package command

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

// While one large batch is being appended the next is decided, on what that one leaves if all of it goes in: mostly it
// does, and then the next can be appended at once. There is never more than one append under way, and none is sent before
// the one ahead of it is known to have gone in whole. What was decided ahead of anything else is decided again.
//
// Small batches are not decided ahead: what a batch costs beside its events then counts for more than the wait for the
// next, so that it is better to let more come together while the answers go out.

// large is how many units have to wait for the next batch to be decided ahead.
const large = 256

// batch is units that are to be appended together.
type batch struct {
	units []*unit
	// ahead says that decisions and round are there, made ahead of the append of the batch before.
	ahead     bool
	decisions []decision
	round     *round
}

// flight is a batch on its way into the log. What became of it may be read once landed is closed.
type flight struct {
	batch  *batch
	stored map[[16]byte]eventstore.StoredKey // the keys of refused requests that the log holds

	landed  chan struct{}
	results []eventstore.UnitResult
	lost    bool
	err     error
}

// clean tells whether all that was decided went in, so that what was decided on it stands.
func (f *flight) clean() bool {
	if f.err != nil || f.lost {
		return false
	}
	for i := range f.results {
		if f.results[i].Outcome != eventstore.Appended {
			return false
		}
	}
	return true
}

// Run takes commands until ctx ends, then finishes those it has taken, refuses those still queued with
// ErrUnavailable, and returns nil. It must be called once.
func (s *Service) Run(ctx context.Context) error {
	var beside sync.WaitGroup
	beside.Go(func() { s.upkeep.run(ctx) })
	defer beside.Wait()
	// What was taken up is finished, also when it is time to stop.
	work := context.WithoutCancel(ctx)
	var under *flight
	for {
		if under == nil {
			units, ok := s.wait(ctx)
			if !ok {
				s.stop()
				return nil
			}
			under = s.begin(work, &batch{units: units})
			continue
		}
		next := s.gather(ctx, under)
		if next != nil && next.ahead && under.clean() {
			took := s.launch(work, next, nil)
			s.land(work, under)
			under = took
			continue
		}
		s.land(work, under)
		under = nil
		if next != nil {
			under = s.begin(work, next)
		}
	}
}

// wait takes a first call and what has queued up with it, without any timer. ok is false once ctx has ended.
func (s *Service) wait(ctx context.Context) (units []*unit, ok bool) {
	if ctx.Err() != nil {
		return nil, false
	}
	select {
	case <-ctx.Done():
		return nil, false
	case c := <-s.queue:
		return s.fill(s.take(nil, c)), true
	}
}

// gather waits until the append under way is over. Meanwhile, once many units wait, it takes them and decides them ahead
// as far as that can be done. It takes nothing any more once ctx has ended.
func (s *Service) gather(ctx context.Context, under *flight) *batch {
	select {
	case <-under.landed:
		return nil
	case <-s.many:
	}
	next := &batch{round: &round{overlay: make(map[uuid.UUID]aggregate)}, ahead: true}
	for {
		queue := s.queue
		if len(next.units) >= maxBatch || ctx.Err() != nil {
			queue = nil
		}
		select {
		case <-under.landed:
			next.ahead = next.ahead && len(next.units) > 0
			return next
		case c := <-queue:
			decided := len(next.units)
			next.units = s.take(next.units, c)
			for _, u := range next.units[decided:] {
				next.ahead = next.ahead && s.decideAhead(next, under.batch.round, u)
			}
		}
	}
}

// decideAhead decides one more unit of a batch on what the round before leaves, if that takes nothing but what is in memory,
// and if it is accepted: a refusal has to rest on the log as it is.
func (s *Service) decideAhead(next *batch, before *round, u *unit) bool {
	for i := range u.requests {
		for _, id := range accountsOf(&u.requests[i]) {
			if _, have := next.round.overlay[id]; have {
				continue
			}
			a, ok := before.overlay[id]
			if !ok {
				a, ok = s.cache.Get(id)
			}
			if !ok {
				return false
			}
			next.round.overlay[id] = a
		}
	}
	d := next.round.decideUnit(u)
	next.decisions = append(next.decisions, d)
	return d.err == nil
}

// begin decides a batch and has it appended. It answers nil when nothing is under way, since nothing of the batch is left
// to append: then all of it has been answered.
func (s *Service) begin(ctx context.Context, b *batch) *flight {
	if len(b.units) == 0 {
		return nil
	}
	var (
		stored map[[16]byte]eventstore.StoredKey
		err    error
	)
	b.decisions, b.round, err = s.decideAll(ctx, b.units, make(map[uuid.UUID]aggregate))
	if err == nil {
		stored, err = s.keysOfRefused(ctx, b.decisions)
	}
	if err != nil {
		s.forget()
		s.finishAll(b.units, err)
		return nil
	}
	return s.launch(ctx, b, stored)
}

// launch has a decided batch appended.
func (s *Service) launch(ctx context.Context, b *batch, stored map[[16]byte]eventstore.StoredKey) *flight {
	f := &flight{batch: b, stored: stored, landed: make(chan struct{})}
	units := unitsOf(b.decisions)
	if len(units) == 0 {
		close(f.landed)
		return f
	}
	go func() {
		defer close(f.landed)
		f.results, f.lost, f.err = s.append(ctx, units)
	}()
	return f
}

// land answers a batch that has been appended. A unit that lost against another instance is brought up to date and
// decided again; its neighbours are not held up by it.
func (s *Service) land(ctx context.Context, f *flight) {
	if f.err != nil {
		// The outcome of the append is not known, so neither is the state of any account.
		s.forget()
		s.finishAll(f.batch.units, f.err)
		return
	}
	f.batch.round.lost = f.lost
	s.again(ctx, s.settle(ctx, f.batch.decisions, f.results, f.stored, f.batch.round), f.batch.round.fresh)
}

// again decides and appends units that lost, pass after pass, with a bound.
func (s *Service) again(ctx context.Context, open []*unit, fresh map[uuid.UUID]aggregate) {
	for try := 1; len(open) > 0; try++ {
		if try == maxTries {
			s.finishAll(open, ErrContended)
			return
		}
		lost, err := s.pass(ctx, open, fresh)
		if err != nil {
			s.forget()
			s.finishAll(open, err)
			return
		}
		open = lost
	}
}

func unitsOf(decisions []decision) []eventstore.Unit {
	units := make([]eventstore.Unit, 0, len(decisions))
	for i := range decisions {
		if decisions[i].err == nil {
			units = append(units, decisions[i].unit)
		}
	}
	return units
}

// append gives the units to the log. lost says that the log has lost what they were decided on, or may have.
func (s *Service) append(ctx context.Context, units []eventstore.Unit) (results []eventstore.UnitResult, lost bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	over := func(error) {}
	if s.appending != nil {
		ctx, over = s.appending(ctx, units)
	}
	began, events := time.Now(), 0
	results, lost, err = s.store.AppendAfter(ctx, &s.past, units)
	over(err)
	if err != nil {
		return nil, false, err
	}
	for i := range units {
		events += len(units[i].Events)
	}
	s.meter.Batch(events, time.Since(began))
	return results, lost, nil
}
