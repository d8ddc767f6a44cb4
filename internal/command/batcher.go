package command

import (
	"context"
	"errors"
	"time"

	"passbook/internal/eventstore"
)

const (
	// storeTimeout bounds one call of the log, beyond the lock and statement timeouts of the database.
	storeTimeout = 10 * time.Second
	// maxMoved is how often a batch is decided again before the append lock is taken first.
	maxMoved = 2
	// lockFirst is how many batches take the append lock first after one that found events of others.
	lockFirst = 16
)

// errMoved says that others have appended after the instance's head.
var errMoved = errors.New("the log has moved")

// log is the log as one attempt sees it: an *eventstore.Store, or an *eventstore.Locked at the end of the log.
type log interface {
	history
	Append(ctx context.Context, head eventstore.Head, b *eventstore.Batch) (eventstore.Appended, error)
}

// Run takes commands until ctx ends, then finishes those it has taken, refuses those still queued with ErrUnavailable, and
// returns nil. It must be called once. It does not recover: a panic in it ends the process.
func (s *Service) Run(ctx context.Context) error {
	maintained := make(chan struct{})
	go func() {
		defer close(maintained)
		s.maintain(ctx)
	}()
	s.running.Store(true)
	work := context.WithoutCancel(ctx) // what has been taken is finished
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
		s.finishAll(groups, ErrUnavailable)
	}
	<-maintained
	return nil
}

// dropAbandoned finishes the groups whose callers no longer wait, and returns the others.
func (s *Service) dropAbandoned(groups []*group) []*group {
	kept := groups[:0]
	for _, g := range groups {
		if err := g.call.ctx.Err(); err != nil {
			s.finish(g, nil, err)
		} else {
			kept = append(kept, g)
		}
	}
	return kept
}

// write decides and appends groups until all of them are finished.
func (s *Service) write(ctx context.Context, open []*group) {
	s.began.Store(time.Now().UnixNano())
	defer s.began.Store(0)
	for moved := 0; len(open) > 0; {
		attempt := s.writeOptimistic
		if moved == maxMoved || s.contended > 0 {
			attempt = s.writeLocked
		}
		rest, err := attempt(ctx, open)
		switch {
		case errors.Is(err, errMoved):
			moved++
		case err != nil:
			s.accounts.forget() // the outcome is unknown
			s.finishAll(open, err)
			return
		default:
			open = rest
		}
	}
}

// writeOptimistic makes one attempt on the instance's head. When the log has moved it catches up and returns errMoved.
func (s *Service) writeOptimistic(ctx context.Context, open []*group) ([]*group, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	rest, err := s.attempt(ctx, s.store, open)
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

// writeLocked makes one attempt that no other instance can overtake.
func (s *Service) writeLocked(ctx context.Context, open []*group) ([]*group, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// Accounts that have to be read are read before others wait for it.
	err := s.accounts.takeHead(ctx, s.store)
	if err == nil {
		err = s.accounts.load(ctx, s.store, accountsOf(open))
	}
	if err != nil {
		return nil, err
	}
	before := s.accounts.head
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
	rest, err := s.attempt(ctx, locked, open)
	if errors.Is(err, errMoved) {
		return nil, errors.New("command: the log moved although the append lock was held")
	}
	return rest, err
}

// attempt decides the groups and appends them once. It finishes those that are answered by it and returns the others, which
// are to be decided again. On an error it has finished none.
func (s *Service) attempt(ctx context.Context, l log, open []*group) ([]*group, error) {
	if err := s.accounts.takeHead(ctx, l); err != nil {
		return nil, err
	}
	ids := accountsOf(open)
	if err := s.accounts.load(ctx, l, ids); err != nil {
		return nil, err
	}
	r := decide(s.accounts.head, ids, open)
	// A request that failed, but not by the rules, has no key in the batch, so the append cannot say that it is stored.
	if r.failed {
		if rest, err := s.answerStored(ctx, open); err != nil || len(rest) < len(open) {
			return rest, err
		}
	}
	result, err := s.append(ctx, l, r)
	switch {
	case err != nil:
		return nil, err
	case result.Moved:
		return nil, errMoved
	case len(result.Taken) > 0:
		return s.answerStored(ctx, open)
	}
	r.recorded(result.RecordedAt)
	s.keep(r)
	for i := range r.decisions {
		d := &r.decisions[i]
		s.finish(d.group, d.results, d.err)
	}
	return nil, nil
}

// append gives the batch to the log.
func (s *Service) append(ctx context.Context, l log, r *round) (eventstore.Appended, error) {
	over := func(error) {}
	if s.appending != nil {
		ctx, over = s.appending(ctx, &r.batch)
	}
	began := time.Now()
	result, err := l.Append(ctx, r.head, &r.batch)
	over(err)
	if err == nil && !result.Moved && len(result.Taken) == 0 && len(r.batch.Events) > 0 {
		s.meter.Batch(len(r.batch.Events), time.Since(began))
	}
	return result, err
}

// keep takes over what was written, and wakes the readers.
func (s *Service) keep(r *round) {
	s.accounts.keep(r.accounts, r.end())
	if len(r.batch.Events) > 0 {
		s.appended(r.end().Position)
	}
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
groups:
	for _, g := range open {
		for k := range g.keys() {
			if stored[k.Hash] != nil {
				results, err := firstAnswer(g, stored)
				s.finish(g, results, err)
				continue groups
			}
		}
		rest = append(rest, g)
	}
	return rest, nil
}

// finish answers a group; with the last group of a call its caller goes on. The call's keys go first: a caller that has its
// answer may use them again at once.
func (s *Service) finish(g *group, results []Result, err error) {
	g.results, g.err = results, err
	s.count(g)
	if g.call.open--; g.call.open == 0 {
		s.queue.release(g.call)
		close(g.call.done)
	}
}

func (s *Service) finishAll(groups []*group, err error) {
	for _, g := range groups {
		s.finish(g, nil, err)
	}
}
