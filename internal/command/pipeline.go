package command

import (
	"context"
	"fmt"
	"runtime/debug"
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
	s.work = context.WithoutCancel(ctx)
	s.turn <- struct{}{}
	for s.wait(ctx) {
		s.drain(ctx)
		s.turn <- struct{}{}
	}
	s.stop()
	return nil
}

// wait waits until something is queued, and then for the turn. It answers false once ctx has ended, and has the turn then
// too: nobody gets it any more.
func (s *Service) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-s.some:
	}
	<-s.turn
	return ctx.Err() == nil
}

// drain decides and appends what is queued, batch after batch, until nothing is or ctx has ended.
func (s *Service) drain(ctx context.Context) {
	var under *flight
	for {
		if under == nil {
			if ctx.Err() != nil {
				return
			}
			units := s.fill(nil)
			if len(units) == 0 {
				return
			}
			under = s.launch(s.begin(&batch{units: units}))
			continue
		}
		next := s.gather(ctx, under)
		if next != nil && next.ahead && under.clean() {
			took := s.launch(newFlight(next, nil))
			s.land(under)
			under = took
			continue
		}
		s.land(under)
		under = nil
		if next != nil {
			under = s.launch(s.begin(next))
		}
	}
}

// launch has a flight fly beside what follows. There may be none.
func (s *Service) launch(f *flight) *flight {
	if f != nil {
		go s.fly(f)
	}
	return f
}

// appendNow appends the units of a call at once, with what is queued, if nobody else is at it: a caller that is alone
// is spared the way through the queue and back, which takes longer than the decision. It answers false when the call has to
// be queued.
func (s *Service) appendNow(c *call) bool {
	if s.waiting.Load() > 0 {
		return false
	}
	select {
	case <-s.turn:
	default:
		return false
	}
	// Whoever serves the caller may recover from a panic. Here it would leave others waiting for ever.
	defer func() {
		if v := recover(); v != nil {
			go panic(fmt.Sprintf("%v\n%s", v, debug.Stack()))
		}
	}()
	if f := s.begin(&batch{units: s.fill(s.admit(nil, c))}); f != nil {
		s.fly(f)
		s.land(f)
	}
	s.turn <- struct{}{}
	return true
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

// begin decides a batch, which is then to fly. It answers nil when nothing of the batch is left to append: then all of it
// has been answered.
func (s *Service) begin(b *batch) *flight {
	if len(b.units) == 0 {
		return nil
	}
	var (
		stored map[[16]byte]eventstore.StoredKey
		err    error
	)
	b.decisions, b.round, err = s.decideAll(s.work, b.units, make(map[uuid.UUID]aggregate))
	if err == nil {
		stored, err = s.keysOfRefused(s.work, b.decisions)
	}
	if err != nil {
		s.forget()
		s.finishAll(b.units, err)
		return nil
	}
	return newFlight(b, stored)
}

func newFlight(b *batch, stored map[[16]byte]eventstore.StoredKey) *flight {
	return &flight{batch: b, stored: stored, landed: make(chan struct{})}
}

// fly has what was decided appended.
func (s *Service) fly(f *flight) {
	defer close(f.landed)
	if units := unitsOf(f.batch.decisions); len(units) > 0 {
		f.results, f.lost, f.err = s.append(s.work, units)
	}
}

// land answers a batch that has been appended. A unit that lost against another instance is brought up to date and
// decided again; its neighbours are not held up by it.
func (s *Service) land(f *flight) {
	if f.err != nil {
		// The outcome of the append is not known, so neither is the state of any account.
		s.forget()
		s.finishAll(f.batch.units, f.err)
		return
	}
	f.batch.round.lost = f.lost
	s.again(s.work, s.settle(s.work, f.batch.decisions, f.results, f.stored, f.batch.round), f.batch.round.fresh)
}

// again decides and appends units that lost, pass after pass, with a bound. Whoever reads before each try loses against an
// instance that is busy with the same accounts and need not read; so from some try on nobody else may append meanwhile.
func (s *Service) again(ctx context.Context, open []*unit, fresh map[uuid.UUID]aggregate) {
	for try := 1; len(open) > 0; try++ {
		if try == maxTries {
			s.finishAll(open, ErrContended)
			return
		}
		pass := s.pass
		if try > triesInTurn {
			pass = s.passLocked
		}
		lost, err := pass(ctx, open, fresh)
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
