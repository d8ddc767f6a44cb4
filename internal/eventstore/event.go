// Package eventstore is the log: one table of events whose positions run from 1 without a gap, in commit order.
// It appends batches, reads streams and the log, and knows nothing of what the events mean. All SQL of the log is
// here; docs/adr/0001-order-of-the-log.md says why it is done this way.
package eventstore

import (
	"time"

	"github.com/google/uuid"
)

// Event is an event as the log holds it.
type Event struct {
	// Position counts all events from 1, without a gap.
	Position int64
	StreamID uuid.UUID
	// Version counts the events of the stream from 1, without a gap.
	Version       int64
	EventID       uuid.UUID
	Type          string
	SchemaVersion int
	// Payload and Metadata are JSON objects. Both are valid until the caller is done with the Event; nothing else
	// refers to them.
	Payload, Metadata []byte
	// RecordedAt is the database's clock under the append lock, to the microsecond. It never decreases as positions
	// grow.
	RecordedAt time.Time
	// Decoded is what the payload says, where one reader has decoded it for several. The Store leaves it nil.
	Decoded any
}

// NewEvent is an event to be appended.
type NewEvent struct {
	StreamID uuid.UUID
	// Version is what the event's version must be: one more than that of the stream's last event.
	Version int64
	// Follows is the id of the event before it on the stream, the one it was decided on; zero for version 1.
	Follows       uuid.UUID
	EventID       uuid.UUID
	Type          string
	SchemaVersion int
	Payload       []byte
	// Metadata is a JSON object; nil stands for {}.
	Metadata []byte
}

// Key is an idempotency key to be stored with the events of a unit.
type Key struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// First and Count tell which events of the unit the key answers for: Count of them, from index First.
	First, Count int
}

// Unit is what is appended whole or not at all: the events of one command, or of several that the caller wants
// to stand or fall together.
type Unit struct {
	Events []NewEvent
	Keys   []Key
}

// Outcome is what became of a unit.
type Outcome uint8

// The outcomes of a unit.
const (
	// Appended says that the unit's events are in the log, durably.
	Appended Outcome = iota
	// Conflict says that one of its streams has moved on (or back); nothing of the unit was written.
	Conflict
	// Duplicate says that one of its keys is taken; nothing of the unit was written.
	Duplicate
)

// UnitResult is what Append answers for each unit.
type UnitResult struct {
	Outcome Outcome
	// First is the position of the unit's first event; the others follow without a gap. 0 unless Appended.
	First int64
	// RecordedAt is the same for all events of a batch.
	RecordedAt time.Time
}

// StoredKey is an idempotency key found in the log.
type StoredKey struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// First is the position of the first event the key answers for, Count how many there are.
	First int64
	Count int
}
