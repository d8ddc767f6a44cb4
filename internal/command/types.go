package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
)

// Errors of a command, in addition to those of account.Decide and account.Index. Match them with errors.Is and errors.As.
var (
	// ErrKeyReused means that the idempotency key was first used with a different request.
	ErrKeyReused = errors.New("idempotency key was used with another request")
	// ErrKeyInFlight means that the first request with this key has not been answered yet.
	ErrKeyInFlight = errors.New("a request with this idempotency key is in flight")
	// ErrOverloaded means that the queue is full; nothing was done and the command may be sent again.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrUnavailable means that the service is stopping; nothing was done. It does not stand for an unavailable database: then the
	// error wraps the database's own, and the outcome is unknown. A command retried with its idempotency key is applied at most
	// once.
	ErrUnavailable = errors.New("the service is stopping")
	// ErrArchived means that the account's events are in the archive, and that another release wrote its snapshot; nothing was done.
	ErrArchived = errors.New("attach the archive: this release cannot read the account's snapshot, and its events are archived")
)

// VersionError means that the account is at none of the versions in the caller's If-Match. Nothing was done.
type VersionError struct {
	// Have is the account's current version; Want are those the caller expected.
	Have int64
	Want []int64
}

func (e *VersionError) Error() string { return "the account is at another version" }

// RefusedBeforeError means that the first request with this idempotency key was refused. Answer is what Key.Refusal returned for
// it.
type RefusedBeforeError struct{ Answer []byte }

func (e *RefusedBeforeError) Error() string {
	return "the first request with this idempotency key was refused"
}

// ItemError is the error of a DoAll: the command at Index was refused with Err.
type ItemError struct {
	Index int
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("command %d: %v", e.Index, e.Err) }

func (e *ItemError) Unwrap() error { return e.Err }

// Request is one command and the conditions to apply it under.
type Request struct {
	// AccountID is the account to apply the command to; for a transfer, the sending one. For account.Open it is the
	// id of the new account. An account.Reverse ignores it and applies to the account of the movement.
	AccountID uuid.UUID
	Command   account.Command
	// IfVersions, if not nil, must contain the account's version, or the command fails with a *VersionError.
	IfVersions []int64
	// Key is nil if the request has no idempotency key. The key of a dry run is ignored.
	Key *Key
	// Metadata is stored with each event of the command.
	Metadata Metadata
	// DryRun decides the command without appending anything. In an atomic group, all requests are dry runs or none is.
	DryRun bool
}

// key returns the idempotency key, or nil if there is none or it is ignored.
func (r *Request) key() *Key {
	if r.DryRun {
		return nil
	}
	return r.Key
}

// Key is an idempotency key. The log stores only these hashes, never the caller's text.
type Key struct {
	// Hash identifies the key within its scope: the first 16 bytes of the SHA-256 of caller and key.
	Hash [16]byte
	// Fingerprint identifies the request that the key came with. The same key with another fingerprint is refused with
	// ErrKeyReused.
	Fingerprint [16]byte
	// Refusal renders the answer to a refusal, which is stored with the key. It must not be nil. The batcher calls it, possibly
	// more than once, so it must be quick.
	Refusal func(error) []byte
}

// Metadata says where a command came from.
type Metadata = eventjson.Metadata

// Outcome is the outcome of one command of DoEach: its Result, or the error that Do would have returned.
type Outcome struct {
	Result Result
	Err    error
}

// Result is the result of a command. Events has at least one entry, in position order.
type Result struct {
	Events []Recorded
	// Replayed is set if an earlier request with the same idempotency key recorded the events.
	Replayed bool
	// After, for a dry run, is the state that the account of the first event would have. Its Events have no position, id or time.
	After account.State
}

// Recorded is one event in the log.
type Recorded struct {
	AccountID  uuid.UUID
	EventID    uuid.UUID
	Position   int64
	Version    int64
	RecordedAt time.Time
	Event      account.Event
}
