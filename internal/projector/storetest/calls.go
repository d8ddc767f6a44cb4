package storetest

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"passbook/internal/projector"
)

// fencing calls the Store as stale owners would.
func (s *suite) fencing() {
	if s.home.Store == nil {
		s.Skip("tables are fenced by the engine")
	}
	ctx, store, stream := s.Context(), s.home.Store, s.streams[0]
	at := func(position int64) projector.Checkpoint {
		if position == 0 {
			return projector.Checkpoint{}
		}
		return projector.Checkpoint{Position: position, EventID: uuid.NewSHA1(stream, fmt.Append(nil, position))}
	}
	apply := func(epoch, generation, from, to int64) error {
		return store.Apply(ctx, epoch, generation, at(from), at(to), s.home.Fold(stream, to))
	}
	flip := func(epoch, generation int64, truncated bool) error {
		return store.Flip(ctx, epoch, generation, truncated)
	}
	checkpoint := func(epoch int64) error { _, err := store.Checkpoint(ctx, epoch, 1); return err }
	for _, step := range []struct {
		what   string
		err    error
		fenced bool
	}{
		{"a first owner", checkpoint(1), false},
		{"a first batch", apply(1, 1, 0, 1), false},
		{"the first generation", flip(1, 1, false), false},
		{"a batch again", apply(1, 1, 0, 1), true},
		{"a gap", apply(1, 1, 2, 3), true},
		{"the event at the position is another", store.Apply(ctx, 1, 1, projector.Checkpoint{Position: 1, EventID: uuid.New()}, at(2), s.home.Fold(stream, 2)), true},
		{"a second owner", checkpoint(2), false},
		{"a batch of the first", apply(1, 1, 1, 2), true},
		{"a checkpoint of the first", checkpoint(1), true},
		{"a batch of the second", apply(2, 1, 1, 2), false},
		{"a generation beside", apply(2, 2, 0, 1), false},
		{"it is behind", flip(2, 2, false), true},
		{"it catches up", apply(2, 2, 1, 2), false},
		{"a flip by the first owner", flip(1, 2, false), true},
		{"it flips", flip(2, 2, false), false},
		{"the flip again", flip(2, 2, false), false},
		{"the one before changes nothing", flip(2, 1, false), false},
		{"a third one", apply(2, 3, 0, 1), false},
		{"it goes back, since the log was truncated", flip(2, 3, true), false},
	} {
		if errors.Is(step.err, projector.ErrFenced) != step.fenced || !step.fenced && step.err != nil {
			s.Errorf("%s: %v", step.what, step.err)
		}
	}
	got, position, err := s.home.Read(ctx)
	if err != nil || position != 1 || got[stream] != 1 {
		s.Errorf("in the end: %v at %d, %v", got, position, err)
	}
}

// idle counts what an engine asks of the Store when there is nothing to apply: a flip at most for each time that it has looked
// where the store is.
func (s *suite) idle() {
	if s.home.Store == nil {
		s.Skip("tables are not flipped by polling")
	}
	s.add(20)
	s.start(s.engine("one", s.home), 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == s.head })
	flips, checkpoints, enough := s.steps.flips.Load(), s.steps.checkpoints.Load(), s.steps.left.Load()-200
	s.eventually("it polls", func() bool { return s.steps.left.Load() < enough })
	flips = s.steps.flips.Load() - flips
	if checkpoints = s.steps.checkpoints.Load() - checkpoints; flips > checkpoints+1 {
		s.Errorf("%d flips for %d checkpoints", flips, checkpoints)
	}
}
