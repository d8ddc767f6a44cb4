package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
)

// Errors of a command, beside those of account.Decide and account.Index. They are matched with errors.Is and errors.As.
var (
	// ErrKeyReused says that the idempotency key was first used with a different request.
	ErrKeyReused = errors.New("idempotency key was used with another request")
	// ErrKeyInFlight says that the first request with this key has not been answered yet.
	ErrKeyInFlight = errors.New("a request with this idempotency key is in flight")
	// ErrOverloaded says that the queue is full; nothing was done and the command may be sent again.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrUnavailable says that the service is stopping; nothing was done. A database that is unavailable comes as its own
	// error, wrapped: whether the command was applied is then unknown, and retried with the same idempotency key it is
	// applied at most once.
	ErrUnavailable = errors.New("the service is stopping")
)

// VersionError says that an account is at none of the versions the caller named in If-Match. Nothing was done.
type VersionError struct {
	// Have is the account's version now; Want are those the caller expected.
	Have int64
	Want []int64
}

func (e *VersionError) Error() string { return "the account has moved on" }

// RefusedBeforeError says that the rules refused the first request with this idempotency key. Answer is what Key.Refusal returned
// for it then.
type RefusedBeforeError struct{ Answer []byte }

func (e *RefusedBeforeError) Error() string {
	return "the first request with this idempotency key was refused"
}

// ItemError says which of the commands of a DoAll was refused, and why.
type ItemError struct {
	Index int
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("command %d: %v", e.Index, e.Err) }

func (e *ItemError) Unwrap() error { return e.Err }

// Request is one command with what it was asked under.
type Request struct {
	// AccountID is the account the command is for; of a transfer, the one that sends. For account.Open it is the
	// id that the account will have. An account.Reverse is for the account of the movement, whatever is here.
	AccountID uuid.UUID
	// Command is what to do.
	Command account.Command
	// IfVersions, when not nil, must contain the account's version for the command to be decided at all.
	IfVersions []int64
	// Key is nil when the request has no idempotency key. That of a dry run is ignored.
	Key *Key
	// Metadata is kept with each event of the command.
	Metadata Metadata
	// DryRun has the command decided, and nothing appended. Of an atomic group all requests are dry runs, or none.
	DryRun bool
}

// key returns the idempotency key that counts, if there is one.
func (r *Request) key() *Key {
	if r.DryRun {
		return nil
	}
	return r.Key
}

// Key is an idempotency key. The log keeps its hashes only, so nothing the caller put in it is stored.
type Key struct {
	// Hash identifies the key within its scope: the first 16 bytes of SHA-256 over caller and key.
	Hash [16]byte
	// Fingerprint identifies the request the key came with. A key that comes again with another fingerprint is refused with
	// ErrKeyReused.
	Fingerprint [16]byte
	// Refusal renders the answer to a refusal by the rules, which is stored with the key. It must not be nil. The batcher calls
	// it, so it must be quick, and it may be called more than once.
	Refusal func(error) []byte
}

// Metadata says where a command came from. Empty fields are left out of the log.
type Metadata struct {
	CorrelationID string `json:"correlation_id,omitempty"`
	CausationID   string `json:"causation_id,omitempty"`
	Actor         string `json:"actor,omitempty"`
	Traceparent   string `json:"traceparent,omitempty"`
}

// Outcome is what became of one command of DoEach: Result, or the error that Do would have returned.
type Outcome struct {
	Result Result
	Err    error
}

// Result is what a command did. Events has at least one entry, in position order.
type Result struct {
	Events []Recorded
	// Replayed says that the events were recorded by an earlier request with the same idempotency key.
	Replayed bool
	// After is, of a dry run, the state that the account of the first event would have. Its events have no position and no time.
	After account.State
}

// Recorded is one event as the log holds it.
type Recorded struct {
	AccountID  uuid.UUID
	EventID    uuid.UUID
	Position   int64
	Version    int64
	RecordedAt time.Time
	Event      account.Event
}
