package command

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// storedMetadata is the metadata of an event in the log.
type storedMetadata struct {
	Metadata
	// State, if set, is a snapshot: the account's state after the event (eventjson.SnapshotPattern).
	State jsontext.Value `json:"state,omitzero"`
}

// encode returns the metadata as a JSON object. Inexact metadata is better than a failed batch: encode removes NUL, which jsonb
// cannot store, and replaces invalid UTF-8.
func (m storedMetadata) encode() ([]byte, error) {
	for _, field := range []*string{&m.CorrelationID, &m.CausationID, &m.Actor, &m.Traceparent} {
		*field = strings.ReplaceAll(*field, "\x00", "")
	}
	return json.Marshal(&m, jsontext.AllowInvalidUTF8(true))
}
