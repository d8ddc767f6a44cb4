package projector

import (
	"context"
	"errors"
)

// Store keeps a read model outside PostgreSQL: in memory, or in a cache. It keeps generations, one of which is live and serves reads,
// and the checkpoint of each, which it stores together with the changes of a batch. The store's checkpoint is authoritative; the row
// in projections follows it. Epochs and generations count from 1 and only grow.
//
// Package storetest has the tests that every Store must pass.
type Store interface {
	// Checkpoint returns the checkpoint of a generation, or the zero Checkpoint if the store has none. From then on the store
	// refuses owners of earlier epochs. It returns ErrFenced if it has seen a later epoch.
	Checkpoint(ctx context.Context, epoch, generation int64) (Checkpoint, error)
	// Apply applies the fold to a generation and moves its checkpoint, both or neither. It returns ErrFenced and changes nothing
	// if the generation is not at from, or if the store has seen a later epoch.
	Apply(ctx context.Context, epoch, generation int64, from, to Checkpoint, fold any) error
	// Flip makes a generation live unless a later one is, and may delete all others but the one that was live. It returns
	// ErrFenced if the store has seen a later epoch, or if the generation is behind the live one. It may be behind if truncated
	// is set: the live one then has events that the log has lost.
	Flip(ctx context.Context, epoch, generation int64, truncated bool) error
}

// ErrFenced means that a Store has refused a call: another owner has taken over, or the generation is not at the position that the
// caller expects.
var ErrFenced = errors.New("the store has refused a stale owner")
