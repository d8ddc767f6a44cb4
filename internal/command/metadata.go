package command

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// storedMetadata is the metadata of an event in the log.
type storedMetadata struct {
	Metadata
	// State, if set, is a snapshot: the account's state after the event.
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

// snapshotPattern is a jsonb value that the metadata of an event contains if this code can read its snapshot.
var snapshotPattern = `{"state":{"state_version":` + strconv.Itoa(eventjson.StateVersion) + `}}`

// snapshotOf returns the snapshot in an event's metadata.
func snapshotOf(e *eventstore.Event) (account.State, error) {
	var stored storedMetadata
	if err := json.Unmarshal(e.Metadata, &stored); err != nil {
		return account.State{}, err
	}
	return eventjson.UnmarshalState(stored.State)
}
