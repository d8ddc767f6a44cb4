// Package command is the write side: it brings commands that arrive together into one append, decides each on
// the current state of its account, and answers only once the events are durable.
package command

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
)

// Errors a command can end with, beside those of package account (ErrNotFound, ErrExists, *Refusal).
// They are matched with errors.Is and errors.As.
var (
	// ErrKeyReused says that the idempotency key was first used with a different request.
	ErrKeyReused = errors.New("idempotency key was used with another request")
	// ErrKeyInFlight says that the first request with this key has not been answered yet.
	ErrKeyInFlight = errors.New("a request with this idempotency key is in flight")
	// ErrOverloaded says that the queue is full; nothing was done and the command may be sent again.
	ErrOverloaded = errors.New("too many commands are waiting")
	// ErrUnavailable says that the service is stopping; nothing was done. A database that is away comes as its own
	// error, wrapped: whether the command was applied is then not known, and sent again with the same idempotency
	// key it is applied at most once.
	ErrUnavailable = errors.New("the service is stopping")
	// ErrContended says that the account kept changing under the command for as many tries as are allowed.
	ErrContended = errors.New("the account is changing too fast")
)

// VersionError says that an account is not at the version the caller named in If-Match. Nothing was done.
type VersionError struct {
	// Have is the account's version now; Want is what the caller expected.
	Have, Want int64
}

func (e *VersionError) Error() string { return "the account has moved on" }

// Request is one command with what it was asked under.
type Request struct {
	// AccountID is the account the command is for; of a transfer, the one that sends. For account.Open it is the
	// id the account will have, chosen by the caller or made at the edge.
	AccountID uuid.UUID
	// Command is what to do.
	Command account.Command
	// IfVersion, when not nil, must equal the account's version for the command to be decided at all.
	IfVersion *int64
	// Key is nil when the request has no idempotency key.
	Key *Key
	// Metadata is kept with each event of the command.
	Metadata Metadata
}

// Key is an idempotency key as the log keeps it: hashes only, so nothing the caller put in it is stored.
type Key struct {
	// Hash identifies the key within its scope: the first 16 bytes of SHA-256 over caller and key.
	Hash [16]byte
	// Fingerprint identifies the request the key came with: the first 16 bytes of SHA-256 over its method, path,
	// and body. A key that comes again with another fingerprint is refused with ErrKeyReused.
	Fingerprint [16]byte
}

// Metadata says where a command came from. Empty fields are left out of the log.
type Metadata struct {
	CorrelationID string `json:"correlation_id,omitempty"`
	CausationID   string `json:"causation_id,omitempty"`
	Actor         string `json:"actor,omitempty"`
	Traceparent   string `json:"traceparent,omitempty"`
}

// Result is what a command did. Events has at least one entry, in position order.
type Result struct {
	Events []Recorded
	// Replayed says that the events were recorded by an earlier request with the same idempotency key.
	Replayed bool
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
