package eventjson_test

import (
	"errors"
	"testing"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

// TestErased expects an event whose text is gone to be read without it.
func TestErased(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]account.Event{
		`{"erased": true, "owner": "", "currency": "EUR", "decimals": 2, "overdraft_limit": 0}`: account.AccountCreated{Currency: eur},
		`{"erased": true, "amount": 5, "currency": "EUR"}`:                                      account.MoneyDeposited{Amount: money.New(5, eur)},
		`{"erased": true, "owner": ""}`:                                                         account.OwnerChanged{},
		`{"erased": true, "metadata": {}}`:                                                      account.MetadataChanged{},
		`{"erased": true}`:                                                                      account.AccountClosed{},
	} {
		name := want.EventType()
		if got, err := eventjson.Decode(name, eventjson.SchemaVersion(name), []byte(payload)); err != nil || got != want {
			t.Errorf("%s %s: got %+v, %v", name, payload, got, err)
		}
	}
}

// TestSealed expects text that nobody has opened to be an error, and never an event without text.
func TestSealed(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		account.TypeAccountCreated: `{"sealed": {"subject": "x", "box": "y"}, "currency": "EUR", "decimals": 2, "overdraft_limit": 0}`,
		account.TypeMoneyDeposited: `{"amount": 5, "sealed": {"subject": "x", "box": "y"}, "currency": "EUR"}`,
		account.TypeAccountClosed:  `{"sealed": 1}`,
	} {
		got, err := eventjson.Decode(name, eventjson.SchemaVersion(name), []byte(payload))
		if !errors.Is(err, eventjson.ErrUnknownSchema) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	state, err := eventjson.UnmarshalState([]byte(`{"state_version":2,"status":"active","currency":"EUR","balance":0,"overdraft_limit":0,
		"held":0,"sealed":{"subject":"x","box":"y"}}`))
	if !errors.Is(err, eventjson.ErrUnknownSchema) {
		t.Errorf("got %+v, %v", state, err)
	}
}
