package projector

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
)

var (
	// ErrUnknownProjection means that no projection with that id is registered.
	ErrUnknownProjection = errors.New("no such projection")

	// ErrUnknownReplay means that the projection has no replay with that id.
	ErrUnknownReplay = errors.New("no such replay")

	// ErrReplayFinished means that the replay is over and can no longer be cancelled.
	ErrReplayFinished = errors.New("the replay is finished")

	// ErrNoPreviousGeneration means that there is nothing to roll back to: the projection has not been rebuilt, another replay has
	// begun since, the log was truncated, or the read model is in a Store.
	ErrNoPreviousGeneration = errors.New("no previous generation")

	// ErrRollbackFailed means that the previous generation could not be made live again, or that the rollback was cancelled. The
	// live generation continues to serve.
	ErrRollbackFailed = errors.New("the rollback has failed")
)

// ReplayRunningError means that a replay or rollback of the projection is already running.
type ReplayRunningError struct{ Replay Replay }

func (e *ReplayRunningError) Error() string {
	return "projection " + e.Replay.Projection + " is already being replayed by " + e.Replay.ID.String()
}

// State says whether a projection is being applied.
type State string

// The states of a projection.
const (
	Running State = "running"
	// Paused projections wait for Resume.
	Paused State = "paused"
	// Halted projections have stopped at an error, and retry until its cause is gone.
	Halted State = "halted"
)

// ReplayState says whether a replay is over, and how it ended.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning   ReplayState = "running"
	ReplayCompleted ReplayState = "completed"
	ReplayFailed    ReplayState = "failed"
	ReplayCancelled ReplayState = "cancelled"
)

// ArchivedError is the error of a replay of a log whose first events are in the archive.
type ArchivedError = eventstore.ArchivedError

// ReplayKind says which generation a replay builds.
type ReplayKind string

// The kinds of a replay.
const (
	// KindReplay builds the next generation from the beginning of the log.
	KindReplay ReplayKind = "replay"
	// KindRollback brings the previous generation back.
	KindRollback ReplayKind = "rollback"
)

// Status is the status of a projection.
type Status struct {
	ID string
	// Version is the Projection.Version that built the live generation. An owner with a higher one rebuilds it.
	Version int
	State   State
	// Position is the last applied, Head the last in the log, Lag their difference in events. First is the first position from which on
	// the log has every event.
	Position, Head, Lag, First int64
	// LagSeconds is the age of the oldest event not applied yet, 0 when there is none.
	LagSeconds float64
	now        time.Time // by the clock of the database, which the times of events are by
	// Rate is the number of events applied per second over the last 10 seconds. It is 0 if another instance owns the projection.
	Rate float64
	// Generation is the live generation, which serves reads.
	Generation int64
	// Owner is the name of the instance that applies the projection, empty if there is none.
	Owner string
	// Error is the error that halts the projection, empty if none does; ErrorPosition is the position of the event it concerns.
	Error         string
	ErrorPosition int64
	// Parked is how many streams of the live generation are parked, each at an event that could not be applied. Every event up to
	// Position is either applied or waits in one of them. Failures counts all failed attempts, ever, also those that halted.
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
	Kind       ReplayKind
	State      ReplayState
	// Processed and Total count events. Total is the log's head at the start; Processed ends equal to it.
	Processed, Total int64
	// Rate is the number of events per second since the replay began. ETASeconds is 0 if it is unknown or the replay is over.
	Rate       float64
	ETASeconds float64
	// Generation is the one being built.
	Generation int64
	// Parked is how many streams are parked in that generation. A replay fails if a stream would be further back in it than in
	// the live generation.
	Parked    int64
	StartedAt time.Time
	// FinishedAt is zero while the replay runs.
	FinishedAt time.Time
	Error      string
}

// setRate sets Rate and ETASeconds of a replay that has taken the given seconds.
func (r *Replay) setRate(seconds float64) {
	if seconds > 0 && r.Kind != KindRollback { // a rollback does not begin at 0
		r.Rate = float64(r.Processed) / seconds
	}
	if r.State == ReplayRunning && r.Rate > 0 {
		r.ETASeconds = float64(r.Total-r.Processed) / r.Rate
	}
}

// ErrUnknownFailure means that the projection's live generation has no failure at that position: a retry may have succeeded.
var ErrUnknownFailure = errors.New("no such failure")

// Failure is an event that the live generation could not apply. Once the event's stream is parked, it stands for the stream.
type Failure struct {
	// Position, EventID, Type and StreamID are those of the event.
	Position int64
	EventID  uuid.UUID
	Type     string
	StreamID uuid.UUID
	// Error is the error of the last attempt. It is empty, and Attempts is 0, if the event has not been tried yet because the
	// events of its stream before it have only just been applied.
	Error    string
	Attempts int
	// Parked is false during the first few attempts, while the whole projection waits.
	Parked bool
	// Waiting is how many events of the stream have yet to be applied, including this one; 0 until the stream is parked.
	Waiting int64
	// RetryAsked is set if the owner will retry the stream as soon as it can.
	RetryAsked                 bool
	FirstFailedAt, LastTriedAt time.Time
}
