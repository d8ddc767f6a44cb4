// Package memory keeps read models in the memory of each instance. They are rebuilt from the log when it starts.
package memory

import (
	"context"
	"fmt"
	"sync"

	"passbook/internal/projector"
)

// Fold gathers a batch and adds it to a model of type M. Apply must not fail.
type Fold[M any] interface{ Apply(model M) }

// Store is a projector.Store that holds a model of type M, such as a map, for each of two generations.
type Store[M any] struct {
	newModel func() M

	mu          sync.RWMutex
	epoch, live int64
	generations map[int64]generation[M]
}

type generation[M any] struct {
	at    projector.Checkpoint
	model M
}

// New makes an empty Store, whose models newModel makes, empty.
func New[M any](newModel func() M) *Store[M] {
	return &Store[M]{newModel: newModel, generations: make(map[int64]generation[M])}
}

// Define makes the projection of a Store. Handlers, added with projector.On, take what newFold makes.
func Define[M any, F Fold[M]](store *Store[M], id string, version int, newFold func() F) *projector.Projection {
	p := projector.DefineIn(store, id, version, func() any { return newFold() })
	p.PerInstance = true
	return p
}

// Read calls f with the live model and the position up to which it is applied. Until the first generation is complete the
// model is empty. f must not keep or change the model.
func (s *Store[M]) Read(f func(model M, position int64)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if g, ok := s.generations[s.live]; ok {
		f(g.model, g.at.Position)
	} else {
		f(s.newModel(), 0)
	}
}

// Checkpoint implements projector.Store.
func (s *Store[M]) Checkpoint(_ context.Context, epoch, gen int64) (projector.Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.epoch {
		return projector.Checkpoint{}, projector.ErrFenced
	}
	s.epoch = epoch
	return s.generations[gen].at, nil
}

// Apply implements projector.Store.
func (s *Store[M]) Apply(_ context.Context, epoch, gen int64, from, to projector.Checkpoint, fold any) error {
	f, ok := fold.(Fold[M])
	if !ok {
		return fmt.Errorf("memory: a %T is no fold of this model", fold)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.generations[gen]
	if epoch < s.epoch || g.at != from {
		return projector.ErrFenced
	}
	if !ok {
		g.model = s.newModel()
	}
	f.Apply(g.model)
	g.at = to
	s.generations[gen] = g
	return nil
}

// Flip implements projector.Store.
func (s *Store[M]) Flip(_ context.Context, epoch, gen int64, truncated bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case epoch < s.epoch:
		return projector.ErrFenced
	case gen <= s.live:
		return nil
	case !truncated && s.generations[gen].at.Position < s.generations[s.live].at.Position:
		return projector.ErrFenced
	}
	for n := range s.generations {
		if n != gen && n != s.live {
			delete(s.generations, n)
		}
	}
	s.live = gen
	return nil
}
