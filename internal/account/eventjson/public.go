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
	var code string
	if err := eachMember(payload, func(name string, value jsontext.Value) error {
		if name != "currency" {
			return nil
		}
		text, err := jsontext.AppendUnquote(nil, value)
		code = string(text)
		return err
	}); err != nil {
		return nil, fmt.Errorf("eventjson: public payload: %w", err)
	}
	currency, known := money.LookupCurrency(code)
	if !known {
		return payload, nil
	}
	public := make([]byte, 0, len(payload)+16)
	err := eachMember(payload, func(name string, value jsontext.Value) (err error) {
		if len(public) == 0 {
			public = append(public, '{')
		} else {
			public = append(public, ',')
		}
		if public, err = jsontext.AppendQuote(public, name); err != nil {
			return err
		}
		public = append(public, ':')
		if !amounts[name] {
			public = append(public, value...)
			return nil
		}
		minor, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil {
			return err
		}
		public, err = jsontext.AppendQuote(public, money.FormatMinor(minor, currency))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("eventjson: public payload: %w", err)
	}
	return append(public, '}'), nil
}

// eachMember calls f for each member of a JSON object, in order.
func eachMember(object []byte, f func(name string, value jsontext.Value) error) error {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if begin, err := d.ReadToken(); err != nil {
		return err
	} else if begin.Kind() != jsontext.KindBeginObject {
		return errors.New("it is not an object")
	}
	for d.PeekKind() == jsontext.KindString {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}
