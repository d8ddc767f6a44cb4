package eventjson

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/money"
)

// amounts are the members of payloads that are minor units of the payload's currency.
var amounts = map[string]bool{"amount": true, "overdraft_limit": true, "released": true}

// Public returns a payload as the feed publishes it: with amounts as decimal strings, such as "12.34", because many JSON
// readers have no 64-bit integers. It changes nothing else, and returns a payload whose currency this code does not know,
// because a newer release wrote it, unchanged.
func Public(payload []byte) ([]byte, error) {
	members, err := membersOf(payload)
	if err != nil {
		return nil, fmt.Errorf("eventjson: public payload: %w", err)
	}
	var code []byte
	for _, m := range members {
		if string(m.name) == "currency" {
			if code, err = jsontext.AppendUnquote(nil, m.value); err != nil {
				return nil, fmt.Errorf("eventjson: public payload: %w", err)
			}
		}
	}
	currency, known := money.LookupCurrency(string(code))
	if !known {
		return payload, nil
	}
	public := append(make([]byte, 0, len(payload)+16), '{')
	for i, m := range members {
		if i > 0 {
			public = append(public, ',')
		}
		if public, err = jsontext.AppendQuote(public, m.name); err != nil {
			return nil, fmt.Errorf("eventjson: public payload: %w", err)
		}
		public = append(public, ':')
		if !amounts[string(m.name)] {
			public = append(public, m.value...)
			continue
		}
		minor, err := strconv.ParseInt(string(m.value), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("eventjson: public payload: %w", err)
		}
		// A decimal needs no escapes.
		public = append(append(append(public, '"'), money.FormatMinor(minor, currency)...), '"')
	}
	return append(public, '}'), nil
}

// member is a member of a JSON object. The value shares the object's memory.
type member struct {
	name  []byte
	value jsontext.Value
}

// membersOf returns the members of a JSON object, in order.
func membersOf(object []byte) ([]member, error) {
	if members, ok := scanMembers(object); ok {
		return members, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if begin, err := d.ReadToken(); err != nil {
		return nil, err
	} else if begin.Kind() != jsontext.KindBeginObject {
		return nil, errors.New("it is not an object")
	}
	var members []member
	for d.PeekKind() == jsontext.KindString {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := []byte(token.String())
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		end := d.InputOffset()
		members = append(members, member{name, object[end-int64(len(value)) : end]})
	}
	_, err := d.ReadToken()
	return members, err
}
