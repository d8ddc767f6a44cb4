package command

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"passbook/internal/eventstore"
)

const (
	// storeTimeout limits one try to append a batch. The database's lock and statement timeouts are shorter.
	storeTimeout = 10 * time.Second
	// maxMoved is how often the log may move under a batch before it takes the append lock first.
	maxMoved = 2
	// lockFirst is how many batches take the append lock first after one that found events of other instances.
	lockFirst = 16
)

// errMoved means that another instance has appended after this instance's head.
var errMoved = errors.New("the log has moved")

// log is the part of *eventstore.Store and *eventstore.Locked that the batcher needs.
type log interface {
	Last(ctx context.Context) (eventstore.Head, error)
	Begin(ctx context.Context) (int64, error)
	ReadStreams(ctx context.Context, streams [][16]byte, upTo int64, snapshot string, each func(*eventstore.Event) error) error
	ReadNamed(ctx context.Context, n eventstore.Named, upTo int64, each func(*eventstore.Event) error) error
	Append(ctx context.Context, head eventstore.Head, b *eventstore.Batch) (eventstore.Appended, error)
}

// Run takes commands until ctx ends, then finishes those it has taken, fails those still queued with ErrUnavailable, and
// returns nil. It must be called once. It does not recover: a panic in it ends the process.
func (s *Service) Run(ctx context.Context) error {
	s.running.Store(true)
	work := context.WithoutCancel(ctx) // commands that were taken are finished
	for ctx.Err() == nil {
		if groups := s.queue.take(); len(groups) > 0 {
			s.write(work, s.dropAbandoned(groups))
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.queue.wake:
		}
	}
	s.running.Store(false)
	s.queue.stop()
	for groups := s.queue.take(); len(groups) > 0; groups = s.queue.take() {
		s.fail(groups, ErrUnavailable)
	}
	return nil
}

// dropAbandoned fails the groups whose callers have gone, and returns the others.
func (s *Service) dropAbandoned(groups []*group) []*group {
	return slices.DeleteFunc(groups, func(g *group) bool {
		abandoned := g.call.ctx.Err()
		if abandoned != nil {
			s.fail([]*group{g}, abandoned)
		}
		return abandoned != nil
	})
}

// write decides and appends groups until all of them are finished.
func (s *Service) write(ctx context.Context, open []*group) {
	s.began.Store(time.Now().UnixNano())
	defer s.began.Store(0)
	clear(s.accounts.unsealed)
	for moved := 0; len(open) > 0; {
		try := s.writeOptimistic
		if moved >= maxMoved || s.contended > 0 {
			try = s.writeLocked
		}
		rest, err := try(ctx, open)
		unsealed, _ := errors.AsType[eventstore.UnsealedError](err)
		_, archived := errors.AsType[*eventstore.ArchivedError](err)
		if archived { // since this instance was active last, its head has moved to the archive
			s.accounts.forget()
		}
		switch {
		case unsealed != nil:
			maps.Copy(s.accounts.unsealed, unsealed) // and decide again
		case archived, errors.Is(err, errMoved):
			moved++
		case err != nil:
			s.accounts.forget() // the outcome is unknown
			s.fail(open, err)
			return
		default:
			open = rest
		}
	}
}

// writeOptimistic tries once on the instance's head. If the log has moved, it catches up and returns errMoved.
func (s *Service) writeOptimistic(ctx context.Context, open []*group) ([]*group, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rest, err := s.decideAndAppend(ctx, s.store, open)
	if !errors.Is(err, errMoved) {
		return rest, err
	}
	events, err := s.store.ReadAfter(ctx, s.accounts.head.Position-1, maxFollowed)
	if err != nil {
		return nil, err
	}
	s.accounts.follow(events)
	return nil, errMoved
}

// writeLocked tries once with the append lock held, so that no other instance can be first.
func (s *Service) writeLocked(ctx context.Context, open []*group) ([]*group, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// Fill the account cache and the codec's before taking the lock, so as not to hold it while reading.
	known, err := s.accounts.load(ctx, s.store, open)
	if err != nil {
		return nil, err
	}
	before := s.accounts.head
	if err := s.store.Prepare(ctx, func() *eventstore.Batch { return &decide(time.Now(), before, known, open).Batch }); err != nil {
		return nil, err
	}
	locked, events, err := s.store.Lock(ctx, before.Position-1, maxFollowed)
	if err != nil {
		return nil, err
	}
	defer locked.Release()
	s.accounts.follow(events)
	s.contended = max(s.contended-1, 0)
	if s.accounts.head != before {
		s.contended = lockFirst
	}
	rest, err := s.decideAndAppend(ctx, locked, open)
	if errors.Is(err, errMoved) {
		return nil, errors.New("command: the log moved although the append lock was held")
	}
	return rest, err
}

// decideAndAppend decides the groups and appends them. It finishes those that have an answer and returns the others, which
// have to be decided again. If it returns an error, it has finished none.
func (s *Service) decideAndAppend(ctx context.Context, l log, open []*group) ([]*group, error) {
	known, err := s.accounts.load(ctx, l, open)
	if err != nil {
		return nil, err
	}
	b := decide(time.Now(), s.accounts.head, known, open)
	// The batch does not contain the keys of failed requests, so the append cannot tell whether they are stored.
	if b.failed {
		if rest, err := s.answerStored(ctx, open); err != nil || len(rest) < len(open) {
			return rest, err
		}
	}
	traced, done := s.config.Appending(ctx, &b.Batch)
	began := time.Now()
	result, err := l.Append(traced, b.head, &b.Batch)
	took := time.Since(began)
	done(err)
	switch {
	case err != nil:
		return nil, err
	case result.Moved:
		return nil, errMoved
	case len(result.Taken) > 0:
		return s.answerStored(ctx, open)
	}
	b.recorded(result.RecordedAt)
	s.accounts.keep(b.accounts, b.end())
	if len(b.Events) > 0 && s.config.Appended != nil {
		s.config.Appended(len(b.Events), took)
	}
	for _, g := range open {
		s.finish(g)
	}
	return nil, nil
}

// finish counts a group and, if it is the last of its call, wakes the caller. It releases the call's keys first, because the
// caller may use them again as soon as it has its answer.
func (s *Service) finish(g *group) {
	s.count(g)
	if g.call.open--; g.call.open == 0 {
		s.queue.release(g.call)
		close(g.call.done)
	}
}

// fail finishes groups with an error.
func (s *Service) fail(groups []*group, err error) {
	for _, g := range groups {
		g.err = err
		s.finish(g)
	}
}
