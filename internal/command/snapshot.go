package command

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

// storedMetadata is the metadata of an event as the log holds it.
type storedMetadata struct {
	Metadata
	// State is the account's state after the event: a snapshot. It is part of the log, so that nobody can change it and it is
	// lost with its event.
	State jsontext.Value `json:"state,omitzero"`
}

// snapshotPattern is contained in the metadata of the events whose snapshot this code can read.
var snapshotPattern = `{"state":{"state_version":` + strconv.Itoa(eventjson.StateVersion) + `}}`

// snapshotOf returns the state that an event carries.
func snapshotOf(e *eventstore.Event) (account.State, error) {
	var stored storedMetadata
	err := json.Unmarshal(e.Metadata, &stored)
	if err == nil {
		var state account.State
		if state, err = eventjson.UnmarshalState(stored.State); err == nil {
			return state, nil
		}
	}
	return account.State{}, fmt.Errorf("command: snapshot at position %d: %w", e.Position, err)
}
