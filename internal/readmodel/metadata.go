package readmodel

import (
	"encoding/json"

	"passbook/internal/account"
)

// metadataJSON returns metadata as it is in a jsonb column, nil for null if there is none.
func metadataJSON(m account.Metadata) []byte {
	if m.IsEmpty() {
		return nil
	}
	text, _ := json.Marshal(m.Map()) // of strings, so it does not fail
	return text
}

// metadataText is metadataJSON as an argument.
func metadataText(m account.Metadata) *string {
	if m.IsEmpty() {
		return nil
	}
	return new(string(metadataJSON(m)))
}
