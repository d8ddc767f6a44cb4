package projector

import (
	"context"
	"errors"
)

// Store keeps a read model elsewhere than in tables of PostgreSQL: in memory, or in a cache. It keeps generations, of which
// one is live, that is, read; and the checkpoint of each, which is stored together with what a batch does. It decides how
// far a generation is; the row in projections follows it. Epochs and generations are numbers from 1, and grow.
//
// Package storetest has the tests that every Store passes.
type Store interface {
	// Checkpoint returns the checkpoint of a generation, the zero Checkpoint when nothing is stored of it. From then on the
	// store refuses owners of earlier epochs. It returns ErrFenced when it has seen a later epoch.
	Checkpoint(ctx context.Context, epoch, generation int64) (Checkpoint, error)
	// Apply stores what the fold does to a generation, and its checkpoint, both or neither. It returns ErrFenced, and changes
	// nothing, when the generation is not at from or when the store has seen a later epoch.
	Apply(ctx context.Context, epoch, generation int64, from, to Checkpoint, fold any) error
	// Flip makes a generation live unless a later one is, and may delete all but it and the one that was. It returns ErrFenced
	// when the store has seen a later epoch, and when the generation is behind the live one, unless truncated says that
	// the log was, so that the live one holds events that it has lost.
	Flip(ctx context.Context, epoch, generation int64, truncated bool) error
}

// ErrFenced says that a Store has refused its caller: another owner has taken over, or a generation is not where the caller
// takes it to be.
var ErrFenced = errors.New("the store has refused a stale owner")
