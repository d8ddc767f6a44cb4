package readmodel

import (
	"encoding/json"

	"passbook/internal/account"
)

// metadataJSON returns metadata as the text of a jsonb column, or nil, which is null, if there is none.
func metadataJSON(m account.Metadata) []byte {
	if m.IsEmpty() {
		return nil
	}
	text, _ := json.Marshal(m.Map()) // a map of strings always encodes
	return text
}

// metadataText is metadataJSON as an argument of a statement.
func metadataText(m account.Metadata) *string {
	if m.IsEmpty() {
		return nil
	}
	return new(string(metadataJSON(m)))
}
