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
	// Payload and Metadata are JSON objects. They may share memory with those of other events, so they must not be changed.
	Payload, Metadata []byte
	// RecordedAt is the database's clock under the append lock, to the microsecond. It never decreases as positions
	// grow.
	RecordedAt time.Time
	// Decoded is the decoded payload, for a reader that decodes it once for several others. The Store leaves it nil.
	Decoded any
}

// Head is the last event of the log. The zero Head is that of an empty log.
type Head struct {
	Position int64
	EventID  uuid.UUID
}

// NewEvent is an event to be appended.
type NewEvent struct {
	StreamID uuid.UUID
	// Version is one more than that of the stream's last event.
	Version       int64
	EventID       uuid.UUID
	Type          string
	SchemaVersion int
	Payload       []byte
	// Metadata is a JSON object; nil stands for {}.
	Metadata []byte
}

// Key is an idempotency key to be stored with a batch, and what it stands for: events of the batch, or a refusal.
type Key struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// First and Count are the events of the batch that the key stands for: Count of them, from index First.
	First, Count int
	// Refusal, when not nil, is the answer to a command that was refused; Count is then 0.
	Refusal []byte
}

// Batch is what one append writes. It may have no events (refusals with their keys), or nothing at all: the append then only
// confirms that the head is still the log's.
type Batch struct {
	Events []NewEvent
	Keys   []Key // no Hash occurs twice
}

// Appended is the outcome of an append. When neither Moved nor Taken is set, everything was written.
type Appended struct {
	// Moved says that the log's head is another than the one given. Nothing was written.
	Moved bool
	// Taken lists the hashes of those keys that were stored before. Nothing was written.
	Taken [][16]byte
	// RecordedAt is the time of all events of the batch.
	RecordedAt time.Time
}

// StoredKey is an idempotency key found in the log.
type StoredKey struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// First is the position of the first event that the key stands for, Count how many there are; 0 with a Refusal.
	First   int64
	Count   int
	Refusal []byte
	Events  []Event // without metadata
}
