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

// storedMetadata is the metadata of an event as the log holds it.
type storedMetadata struct {
	Metadata
	// State, if any, is the account's state after the event: a snapshot.
	State jsontext.Value `json:"state,omitzero"`
}

// encode returns the metadata as a JSON object. Metadata may be inexact but must not make its command fail,
// nor the batch: NUL, which jsonb cannot hold, is left out, and invalid UTF-8 replaced.
func (m storedMetadata) encode() ([]byte, error) {
	for _, field := range []*string{&m.CorrelationID, &m.CausationID, &m.Actor, &m.Traceparent} {
		*field = strings.ReplaceAll(*field, "\x00", "")
	}
	return json.Marshal(&m, jsontext.AllowInvalidUTF8(true))
}

// snapshotPattern is contained in the metadata of the events whose snapshot this code can read.
var snapshotPattern = `{"state":{"state_version":` + strconv.Itoa(eventjson.StateVersion) + `}}`

// snapshotOf returns the state that an event carries.
func snapshotOf(e *eventstore.Event) (account.State, error) {
	var stored storedMetadata
	if err := json.Unmarshal(e.Metadata, &stored); err != nil {
		return account.State{}, err
	}
	return eventjson.UnmarshalState(stored.State)
}
