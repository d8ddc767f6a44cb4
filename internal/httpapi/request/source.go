package request

import (
	"passbook/internal/account"
	"passbook/internal/httpapi/genapi"
)

// FieldKey and FieldVersion are fields of an item of POST /commands; other requests have the headers Idempotency-Key and
// If-Match.
const (
	FieldKey     = "idempotency_key"
	FieldVersion = "if_version"
)

// Source says in which parts of a request the fields of a command are.
type Source struct {
	accountInPath, holdInPath, isItem bool
	key                               keySource
}

type keySource byte

const (
	keyInHeader keySource = iota
	keyInItem
	keyFromOtherItem // made of the key of another item
)

// itemSource returns the source of an item of POST /commands, with or without a key of its own.
func itemSource(ownKey bool) Source {
	if ownKey {
		return Source{isItem: true, key: keyInItem}
	}
	return Source{isItem: true}
}

// FieldErrors returns the error of a field: none for "", and none for an id in the path, which is not part of the body.
func (s Source) FieldErrors(field, code, detail string) []genapi.FieldError {
	e := genapi.FieldError{Code: code, Detail: detail}
	switch {
	case field == "", field == account.FieldAccount && s.accountInPath, field == account.FieldHold && s.holdInPath,
		field == FieldKey && s.key == keyFromOtherItem:
		return nil
	case field == FieldKey && s.key == keyInHeader:
		e.Header = "Idempotency-Key"
	case field == FieldVersion && !s.isItem:
		e.Header = "If-Match"
	default:
		e.Pointer = pointerTo([]string{field})
	}
	return []genapi.FieldError{e}
}
