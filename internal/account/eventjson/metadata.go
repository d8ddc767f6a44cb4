package eventjson

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/account"
)

// Metadata says where a command came from. Empty fields are left out of the log.
type Metadata struct {
	CorrelationID string `json:"correlation_id,omitempty"`
	CausationID   string `json:"causation_id,omitempty"`
	Actor         string `json:"actor,omitempty"`
	Traceparent   string `json:"traceparent,omitempty"`
}

// storedMetadata is the metadata of an event in the log.
type storedMetadata struct {
	Metadata
	// State, if set, is a snapshot: the account's state after the event.
	State jsontext.Value `json:"state,omitzero"`
}

// SnapshotPattern is a jsonb value that the metadata of an event contains if this code can read its snapshot.
var SnapshotPattern = `{"state":{"state_version":` + strconv.Itoa(StateVersion) + `}}`

// Encode returns the metadata as a JSON object. Inexact metadata is better than a failed batch: Encode removes NUL, which jsonb
// cannot store, and replaces invalid UTF-8.
func (m Metadata) Encode() ([]byte, error) { return m.encode(nil) }

// EncodeSnapshot returns the metadata with a snapshot.
func (m Metadata) EncodeSnapshot(s account.State) ([]byte, error) {
	state, err := MarshalState(s)
	if err != nil {
		return nil, err
	}
	return m.encode(state)
}

func (m Metadata) encode(state []byte) ([]byte, error) {
	for _, field := range []*string{&m.CorrelationID, &m.CausationID, &m.Actor, &m.Traceparent} {
		*field = strings.ReplaceAll(*field, "\x00", "")
	}
	return json.Marshal(&storedMetadata{m, state}, jsontext.AllowInvalidUTF8(true))
}

// Snapshot returns the state in the metadata of an event, or ErrGap if it has none.
func Snapshot(metadata []byte) (account.State, error) {
	var stored storedMetadata
	if err := json.Unmarshal(metadata, &stored); err != nil {
		return account.State{}, fmt.Errorf("eventjson: decode metadata: %w", err)
	}
	if stored.State == nil {
		return account.State{}, fmt.Errorf("%w: there is no snapshot of the account before them", ErrGap)
	}
	return UnmarshalState(stored.State)
}
