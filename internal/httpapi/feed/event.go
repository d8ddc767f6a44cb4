// Package feed hands the log to those who follow it, as CloudEvents: a page at a time, or live. One goroutine reads the
// end of the log for all live streams; a stream that cannot keep up is let go of and reads for itself, so that a slow
// reader costs nobody but itself.
package feed

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Source is the CloudEvents source of every event: with an event's id it names the event.
const Source = "/passbook"

// Event is an event of the log as a Log hands it over.
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
	// What is empty of these is left out.
	CorrelationID, CausationID, Traceparent, Actor string
}

// Item is an event as it is sent. It is shared by all streams and must not be changed.
type Item struct {
	Position int64
	Type     string
	Subject  uuid.UUID
	// JSON is a CloudEvent 1.0 in the JSON event format, on one line.
	JSON []byte
}

// render makes the CloudEvent of an event. The extension attributes position and version are strings because a
// CloudEvents Integer has 32 bits, and a log may have more events than that.
func render(e *Event) (Item, error) {
	b := make([]byte, 0, 512+len(e.Data))
	b = appendID(append(b, `{"specversion":"1.0","id":"`...), e.ID)
	b = append(b, `","source":"`+Source+`","type":`...)
	b, err := jsontext.AppendQuote(b, e.Type)
	if err != nil {
		return Item{}, fmt.Errorf("feed: event at position %d: type: %w", e.Position, err)
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
		// What is not UTF-8 cannot be in the log; AppendQuote would have replaced it.
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
	return Item{Position: e.Position, Type: e.Type, Subject: e.Subject, JSON: b}, nil
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
