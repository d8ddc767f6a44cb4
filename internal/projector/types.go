// Package projector tails the event log and keeps read models up to date, each with its checkpoint in the same
// transaction, and rebuilds them beside the live one. It knows nothing of accounts.
package projector

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrUnknownProjection says that no projection of that id is registered.
	ErrUnknownProjection = errors.New("no such projection")
	// ErrUnknownReplay says that the projection has no replay of that id.
	ErrUnknownReplay = errors.New("no such replay")
	// ErrReplayFinished says that the replay is over, so that it can no longer be cancelled.
	ErrReplayFinished = errors.New("the replay is finished")
)

// ReplayRunningError says that a projection is being rebuilt already; one replay at a time.
type ReplayRunningError struct{ Replay Replay }

func (e *ReplayRunningError) Error() string {
	return "projection " + e.Replay.Projection + " is already being replayed by " + e.Replay.ID.String()
}

// Status is a projection as it stands.
type Status struct {
	ID string
	// Version is that of the code that built the live generation; an owner whose code has a higher one rebuilds it.
	Version int
	// State is "running", "paused" or "halted"; a halted projection tries again by itself until the cause is gone.
	State string
	// Position is the last applied, Head the last in the log, Lag their difference in events.
	Position, Head, Lag int64
	// LagSeconds is the age of the oldest event not applied yet, 0 when there is none.
	LagSeconds float64
	// Rate is events applied a second, over the last 10 seconds, by the instance that owns the projection.
	Rate float64
	// Generation is the one that reads are answered from.
	Generation int64
	// Owner names the instance that applies it, empty when none does.
	Owner string
	// Error is the last failure not healed yet, empty when there is none; ErrorPosition is the event it concerns.
	Error         string
	ErrorPosition int64
	// Parked is how many streams the live generation has set aside, each at an event that could not be applied; what
	// was applied and what they wait for make up the log up to Position. Failures is how often an event could not be
	// applied, ever, tries included.
	Parked, Failures int64
	// PreviousGeneration is the one that Rollback brings back, 0 when there is none.
	PreviousGeneration int64
	UpdatedAt          time.Time
	// Replay is the running replay, or the last one, or nil.
	Replay *Replay
}

// Replay is one rebuild of a projection from the log.
type Replay struct {
	ID         uuid.UUID
	Projection string
	// Kind is "replay", or "rollback" when the previous generation is brought back.
	Kind string
	// State is "running", "completed", "failed" or "cancelled".
	State string
	// Processed and Total are events: Total is the head fixed at the start, and Processed ends equal to it.
	Processed, Total int64
	// Rate is events a second since the replay began; ETASeconds is 0 when it is not known or over.
	Rate       float64
	ETASeconds float64
	// Generation is the one being built.
	Generation int64
	// Parked is how many streams are parked in it. A replay fails rather than go live with a stream further back than
	// the live generation has it.
	Parked    int64
	StartedAt time.Time
	// FinishedAt is zero while the replay runs.
	FinishedAt time.Time
	Error      string
}
