package command

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

const (
	// defaultFlights is how many appends may be under way at once. While one waits for its commit the next is decided,
	// sent, and waits for the lock in the database: the processors rest less. More would only wait longer.
	defaultFlights = 2
	// fewest is how many units have to wait before a batch goes out ahead of one that is under way: smaller ones cost
	// more than the wait.
	fewest = 8
	// apart is for how many batches none goes out ahead after one has lost against another instance: what was decided
	// on it would lose as well.
	apart = 16
)

// flight is a batch that is under way to the log.
type flight struct {
	decisions []decision
	round     *round
	// Once done is closed:
	results []eventstore.UnitResult
	err     error
	done    chan struct{}
}

// launch decides a batch on what the flights before it would leave, and sends it to the log. A batch with refusals has
// to be sure of what it refuses on: it waits until all before it have landed, and takes the long way.
func (s *Service) launch(ctx context.Context, batch []*unit) {
	if len(batch) == 0 {
		return
	}
	s.apart = max(0, s.apart-1)
	r := &round{fresh: make(map[uuid.UUID]aggregate)}
	if err := s.load(ctx, batch, r); err != nil {
		s.cache.Purge()
		s.finishAll(batch, err)
		return
	}
	decisions, _ := r.decideOnce(batch)
	if slices.ContainsFunc(decisions, func(d decision) bool { return d.err != nil }) {
		s.landAll(ctx)
		s.process(ctx, batch, make(map[uuid.UUID]aggregate))
		return
	}
	f := &flight{decisions: decisions, round: r, done: make(chan struct{})}
	s.flights = append(s.flights, f)
	go func() {
		defer close(f.done)
		f.results, f.err = s.append(ctx, f.decisions)
	}()
}

// under finds an account as the flights under way would leave it.
func (s *Service) under(id uuid.UUID) (aggregate, bool) {
	for _, f := range slices.Backward(s.flights) {
		if a, ok := f.round.overlay[id]; ok {
			return a, true
		}
	}
	return aggregate{}, false
}

// land waits for the flight that went out first, and answers its units. When some of them lost, what was decided on
// them has lost as well: all flights land, and the losers of all of them are decided again.
func (s *Service) land(ctx context.Context) {
	again, stale := s.landFirst(ctx)
	if len(again) == 0 {
		return
	}
	s.apart = apart
	for len(s.flights) > 0 {
		more, also := s.landFirst(ctx)
		again = append(again, more...)
		maps.Copy(stale, also)
	}
	fresh := make(map[uuid.UUID]aggregate)
	if err := s.refresh(ctx, slices.Collect(maps.Keys(stale)), fresh); err != nil {
		s.cache.Purge()
		s.finishAll(again, err)
		return
	}
	s.process(ctx, again, fresh)
}

func (s *Service) landAll(ctx context.Context) {
	for len(s.flights) > 0 {
		s.land(ctx)
	}
}

// landFirst answers the flight that went out first, and returns the units that are to be decided again, and their
// accounts.
func (s *Service) landFirst(ctx context.Context) (again []*unit, stale map[uuid.UUID]bool) {
	f := s.flights[0]
	<-f.done
	s.flights = slices.Delete(s.flights, 0, 1)
	if f.err != nil {
		// The outcome of the append is not known, so neither is the state of any account.
		s.cache.Purge()
		for i := range f.decisions {
			s.finish(f.decisions[i].of, nil, f.err)
		}
		return nil, nil
	}
	return s.settle(ctx, f.decisions, f.results, nil, f.round)
}
