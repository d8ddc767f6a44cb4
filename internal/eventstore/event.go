package eventstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Event is an event in the log.
type Event struct {
	// Position counts all events, from 1 without a gap.
	Position int64
	StreamID uuid.UUID
	// Version counts the events of the stream, from 1 without a gap.
	Version       int64
	EventID       uuid.UUID
	Type          string
	SchemaVersion int
	// Payload and Metadata are JSON objects. They may share memory with those of other events, so they must not be changed.
	Payload, Metadata []byte
	// RecordedAt is the database's clock under the append lock, to the microsecond. It never decreases from one position to
	// the next.
	RecordedAt time.Time
	// Decoded is the decoded payload, for a reader that decodes it once for several others. The Store leaves it nil.
	Decoded any
	// Err, if not nil, is why the Codec could not restore the personal text, which the event then lacks.
	Err error
}

// ArchivedError means that events of a range are only in the archive. First is the first position from which on the log has every event.
type ArchivedError struct{ First int64 }

func (e *ArchivedError) Error() string {
	return fmt.Sprintf("the events up to position %d are in the archive; attach it with server archive attach", e.First-1)
}

// Head identifies the last event of the log. The zero Head is that of an empty log.
type Head struct {
	Position int64
	EventID  uuid.UUID
}

// NewEvent is an event to be appended.
type NewEvent struct {
	StreamID uuid.UUID
	// Version is one more than the version of the stream's last event.
	Version       int64
	EventID       uuid.UUID
	Type          string
	SchemaVersion int
	Payload       []byte
	// Metadata is a JSON object; nil means {}.
	Metadata []byte
	// SubjectID, for a Codec, is the person whom the event is about; zero means that it is the stream's id.
	SubjectID uuid.UUID
}

// Codec turns events into what the log stores of them, and back. It changes payload and metadata, and replaces the slices.
type Codec interface {
	// Seal returns an UnsealedError if it fails for the events of some streams only.
	Seal(ctx context.Context, events []NewEvent) error
	// Without fetch, Open does not wait: it fails for what it needs and does not have in memory.
	Open(ctx context.Context, events []Event, fetch bool) error
	// OpenEach returns add, which takes events one by one, and flush, which is called after the last. They call each with the events,
	// in order, once they are open, and return its first error. The events need not stay valid after add.
	OpenEach(ctx context.Context, each func(*Event) error) (add func(*Event) error, flush func() error)
}

// UnsealedError says of which streams the Codec cannot encode events now, and why. Nothing was appended.
type UnsealedError map[uuid.UUID]error

func (e UnsealedError) Error() string {
	return fmt.Sprintf("eventstore: events of %d streams cannot be encoded", len(e))
}

// Key is an idempotency key to store with a batch, for events of the batch or for a refusal.
type Key struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// The key is stored for Count events of the batch, from index First.
	First, Count int
	// Refusal, if not nil, is the answer to a refused command; Count is then 0.
	Refusal []byte
}

// Batch is what one append writes. It may contain only keys with refusals, or nothing: the append then only confirms that the
// head is still the log's.
type Batch struct {
	Events []NewEvent
	Keys   []Key // no Hash occurs twice
}

// Appended is the outcome of an append. If neither Moved nor Taken is set, everything was written.
type Appended struct {
	// Moved is set if the log's head is not the given one. Nothing was written.
	Moved bool
	// Taken lists the hashes of the keys that were stored before. If there are any, nothing was written.
	Taken [][16]byte
	// RecordedAt is the time of all events of the batch.
	RecordedAt time.Time
}

// StoredKey is an idempotency key as the database stores it.
type StoredKey struct {
	Hash        [16]byte
	Fingerprint [16]byte
	// The key was stored for Count events, from position First. With a Refusal, Count is 0.
	First   int64
	Count   int
	Refusal []byte
	Events  []Event // without metadata
}
