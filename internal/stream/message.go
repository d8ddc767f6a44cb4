package stream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"passbook/internal/eventstore"
)

// The headers of a message. Its body is the public CloudEvent: amounts are decimals, the schema is the newest, and only the metadata
// that readers need is in it. The headers have payload, schema version and metadata as the log stores them.
const (
	headerContentType = "content-type"
	headerPayload     = "Passbook-Payload"
	headerSchema      = "Passbook-Schema-Version"
	headerMetadata    = "Passbook-Metadata"
	// headerPrevious is the id of the event before this one, so a reader notices when the stream changes to another history.
	headerPrevious = "Passbook-Previous"
)

var contentType = []string{"application/cloudevents+json; charset=utf-8"} // shared by all messages

// NewMessage returns the message of an event. previous is the id of the event before it, zero for the first one. cloudEvent is the
// event in the JSON format of CloudEvents.
func NewMessage(e *eventstore.Event, previous uuid.UUID, cloudEvent []byte) *nats.Msg {
	own := [...]string{string(e.Payload), string(e.Metadata), strconv.Itoa(e.SchemaVersion), previous.String()}
	return &nats.Msg{
		Subject: SubjectPrefix + e.Type, Data: cloudEvent,
		Header: nats.Header{
			headerContentType: contentType, headerPayload: own[0:1:1], headerMetadata: own[1:2:2], headerSchema: own[2:3:3],
			headerPrevious: own[3:],
		},
	}
}

// Recorded is an event as the log that published it has stored it.
type Recorded struct {
	eventstore.Event
	// Previous is the id of the event before, zero for the first one.
	Previous uuid.UUID
}

// errMessage means that a message was not made by NewMessage.
var errMessage = errors.New("not a message of a Passbook relay")

// Parse returns the event of the message with a sequence in the stream. It fails if the event's position is not the sequence.
func Parse(sequence uint64, subject string, header nats.Header, data []byte) (Recorded, error) {
	r, err := parse(subject, header, data)
	if err != nil {
		return Recorded{}, fmt.Errorf("stream: the message with sequence %d: %w: %w", sequence, errMessage, err)
	}
	if uint64(r.Position) != sequence { //nolint:gosec // parse has checked that it is positive
		return Recorded{}, fmt.Errorf("stream: the message with sequence %d has the event at position %d", sequence, r.Position)
	}
	return r, nil
}

func parse(subject string, header nats.Header, data []byte) (r Recorded, err error) {
	var body struct {
		ID       uuid.UUID `json:"id"`
		Subject  uuid.UUID `json:"subject"`
		Time     time.Time `json:"time"`
		Position int64     `json:"position,string"`
		Version  int64     `json:"version,string"`
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return r, err
	}
	r.Position, r.StreamID, r.Version, r.EventID, r.RecordedAt = body.Position, body.Subject, body.Version, body.ID, body.Time.UTC()
	eventType, ok := strings.CutPrefix(subject, SubjectPrefix)
	if !ok || r.Position < 1 || r.Version < 1 || r.EventID == uuid.Nil {
		return r, errors.New("its subject, position, version or id is missing")
	}
	r.Type = eventType
	r.Payload, r.Metadata = []byte(header.Get(headerPayload)), []byte(header.Get(headerMetadata))
	if len(r.Payload) == 0 || len(r.Metadata) == 0 {
		return r, errors.New("its payload or metadata is missing")
	}
	if r.SchemaVersion, err = strconv.Atoi(header.Get(headerSchema)); err != nil {
		return r, err
	}
	r.Previous, err = uuid.Parse(header.Get(headerPrevious))
	return r, err
}
