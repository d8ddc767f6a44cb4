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

	// ErrNoPreviousGeneration says that there is nothing to roll back to: the projection was not rebuilt yet, a replay has
	// begun since, the log was truncated, or the read model is in a Store.
	ErrNoPreviousGeneration = errors.New("no previous generation")

	// ErrRollbackFailed says that the previous generation could not be made live again, or that the rollback was cancelled. The
	// live generation goes on serving.
	ErrRollbackFailed = errors.New("the rollback has failed")
)

// ReplayRunningError says that a projection is being rebuilt already; one replay at a time.
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
	// Halted projections have met an error, and retry by themselves until its cause is gone.
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

// ReplayKind says which generation a replay builds.
type ReplayKind string

// The kinds of a replay.
const (
	// KindReplay builds the next generation from the beginning of the log.
	KindReplay ReplayKind = "replay"
	// KindRollback brings the previous generation back.
	KindRollback ReplayKind = "rollback"
)

// Status is a projection as it stands.
type Status struct {
	ID string
	// Version is that of the code that built the live generation; an owner whose code has a higher one rebuilds it.
	Version int
	State   State
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
	Kind       ReplayKind
	State      ReplayState
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

// setRate fills in the speed of a replay that has taken so many seconds.
func (r *Replay) setRate(seconds float64) {
	if seconds > 0 && r.Kind != KindRollback { // which has not begun at 0
		r.Rate = float64(r.Processed) / seconds
	}
	if r.State == ReplayRunning && r.Rate > 0 {
		r.ETASeconds = float64(r.Total-r.Processed) / r.Rate
	}
}

// ErrUnknownFailure says that the projection's live generation has no failure at that position: it may be healed.
var ErrUnknownFailure = errors.New("no such failure")

// Failure is an event that the live generation could not apply, and with it its stream.
type Failure struct {
	// Position, EventID and Type are those of the event; StreamID is the account's.
	Position int64
	EventID  uuid.UUID
	Type     string
	StreamID uuid.UUID
	// Error is that of the last try. It is empty, and Attempts 0, when the event was not tried: those of its stream
	// before it have just been applied.
	Error    string
	Attempts int
	// Parked is false while the first few tries are made, for which the whole projection waits.
	Parked bool
	// Waiting is how many events of the stream are to be applied, this one included; 0 until it is parked.
	Waiting int64
	// RetryAsked says that the owner is about to try.
	RetryAsked                 bool
	FirstFailedAt, LastTriedAt time.Time
}
