// Package feed serves the log as CloudEvents: a page at a time, or live. One goroutine reads the end of the log for all live
// streams; a stream that cannot keep up is detached and reads for itself, so that a slow reader delays no other.
package feed

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Naming distinguishes the CloudEvents of one deployment from those of another. An empty field stands for that of DefaultNaming.
type Naming struct {
	// Source, a URI reference, identifies an event together with its id.
	Source string
	// TypePrefix goes before the type of an event, such as "com.example.passbook.".
	TypePrefix string
	// SchemaPrefix begins the URI of the schema of event data; an event type, a slash and a schema version follow.
	SchemaPrefix string
}

// DefaultNaming is the naming of a server without settings.
var DefaultNaming = Naming{Source: "/passbook", SchemaPrefix: "urn:passbook:schema:"}

func (n Naming) orDefault() Naming {
	n.Source = cmp.Or(n.Source, DefaultNaming.Source)
	n.SchemaPrefix = cmp.Or(n.SchemaPrefix, DefaultNaming.SchemaPrefix)
	return n
}

// DataSchema returns the URI of the schema for the data of an event type, in a version.
func (n Naming) DataSchema(eventType string, version int) string {
	return n.SchemaPrefix + eventType + "/" + strconv.Itoa(version)
}

// Event is an event of the log, as a Log returns it.
type Event struct {
	Position int64
	ID       uuid.UUID
	// Subject is the account that the event is about, and Version the event's number among those of the account.
	Subject uuid.UUID
	Version int64
	Type    string
	// SchemaVersion is that of Data, a JSON object on one line.
	SchemaVersion int
	Data          []byte
	RecordedAt    time.Time
	// An empty one is left out.
	CorrelationID, CausationID, Traceparent, Actor string
}

// Item is an event in the form in which it is sent. All streams share it; it must not be changed.
type Item struct {
	Position int64
	ID       uuid.UUID
	Type     string
	Subject  uuid.UUID
	// JSON is a CloudEvent 1.0 in the JSON event format, on one line.
	JSON []byte
}

// render encodes an event as a CloudEvent. The extension attributes position and version are strings because a CloudEvents
// Integer has 32 bits, which are too few for a long log.
func (n Naming) render(e *Event) (Item, error) {
	b := make([]byte, 0, 512+len(e.Data))
	b = appendID(append(b, `{"specversion":"1.0","id":"`...), e.ID)
	b = append(b, '"')
	for _, attribute := range [...]struct{ name, value string }{
		{`,"source":`, n.Source},
		{`,"type":`, n.TypePrefix + e.Type},
		{`,"dataschema":`, n.DataSchema(e.Type, e.SchemaVersion)},
	} {
		var err error
		if b, err = jsontext.AppendQuote(append(b, attribute.name...), attribute.value); err != nil {
			return Item{}, fmt.Errorf("feed: event at position %d: type: %w", e.Position, err)
		}
	}
	b = appendID(append(b, `,"subject":"`...), e.Subject)
	b = e.RecordedAt.UTC().AppendFormat(append(b, `","time":"`...), "2006-01-02T15:04:05.000000Z07:00")
	b = strconv.AppendInt(append(b, `","position":"`...), e.Position, 10)
	b = strconv.AppendInt(append(b, `","version":"`...), e.Version, 10)
	b = strconv.AppendInt(append(b, `","schemaversion":`...), int64(e.SchemaVersion), 10)
	for _, extension := range [...]struct{ name, value string }{
		{`,"correlationid":`, e.CorrelationID},
		{`,"causationid":`, e.CausationID},
		{`,"traceparent":`, e.Traceparent},
		{`,"actor":`, e.Actor},
	} {
		if extension.value == "" {
			continue
		}
		// The log contains only UTF-8; AppendQuote would replace anything else.
		b, _ = jsontext.AppendQuote(append(b, extension.name...), extension.value)
	}
	b = append(b, `,"datacontenttype":"application/json","data":`...)
	data := jsontext.Value(e.Data)
	start := len(b)
	b = append(b, data...)
	compact := jsontext.Value(b[start:])
	if err := compact.Compact(); err != nil {
		return Item{}, fmt.Errorf("feed: event at position %d: data: %w", e.Position, err)
	}
	b = append(append(b[:start], compact...), '}')
	return Item{Position: e.Position, ID: e.ID, Type: e.Type, Subject: e.Subject, JSON: b}, nil
}

// CloudEvent returns an event in the JSON event format of CloudEvents 1.0, on one line.
func (n Naming) CloudEvent(e *Event) ([]byte, error) {
	item, err := n.orDefault().render(e)
	return item.JSON, err
}

func appendID(b []byte, id uuid.UUID) []byte {
	b = append(b, "00000000-0000-0000-0000-000000000000"...)
	text := b[len(b)-36:]
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	return b
}
