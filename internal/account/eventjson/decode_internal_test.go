package eventjson

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"passbook/internal/account"
	"passbook/internal/money"
)

// TestUpcast adds imaginary versions 2 and 3 of MoneyDeposited: one renames a field, the next restructures.
func TestUpcast(t *testing.T) {
	t.Parallel()
	var u upcasters
	u[kindDeposited] = []upcaster{
		func(p []byte) ([]byte, error) { return bytes.Replace(p, []byte(`"cents"`), []byte(`"minor"`), 1), nil },
		func(p []byte) ([]byte, error) {
			if !bytes.Contains(p, []byte(`"minor"`)) {
				return nil, errors.New("no minor")
			}
			return bytes.Replace(p, []byte(`"minor"`), []byte(`"amount"`), 1), nil
		},
	}
	eur, _ := money.LookupCurrency("EUR")
	want := account.MoneyDeposited{Amount: money.New(5, eur)}
	for version, payload := range []string{
		1: `{"cents":5,"currency":"EUR"}`, 2: `{"minor":5,"currency":"EUR"}`, 3: `{"amount":5,"currency":"EUR"}`,
	} {
		if version == 0 {
			continue
		}
		if got, err := u.decode(account.TypeMoneyDeposited, version, []byte(payload)); err != nil || got != want {
			t.Errorf("version %d: got %+v, %v", version, got, err)
		}
	}
	if _, err := u.decode(account.TypeMoneyDeposited, 2, []byte(`{}`)); err == nil || errors.Is(err, ErrUnknownSchema) {
		t.Errorf("failing upcaster: got %v", err)
	}
	if _, err := u.decode(account.TypeMoneyDeposited, 4, []byte(`{}`)); !errors.Is(err, ErrUnknownSchema) {
		t.Errorf("version 4: got %v", err)
	}
	if got, err := u.decode(account.TypeMoneyWithdrawn, 1, []byte(`{"amount":5,"currency":"EUR"}`)); err != nil {
		t.Errorf("another type: got %+v, %v", got, err)
	}
}

// scan accepts the payloads that this package writes, also as PostgreSQL rewrites them.
func TestScanAcceptsOwnPayloads(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"amount": 1234, "currency": "EUR", "reference": "x – 日本"}`,
		`{"owner": "Ada", "currency": "EUR", "decimals": 2, "overdraft_limit": 0}`,
		`{}`,
		`{"amount": 999999999999999999, "currency": "EUR"}`,
		`{"amount": 1, "hold_id": "x", "currency": "EUR", "released": 0, "expires_at": "2026-03-01T00:00:00.000000Z"}`,
		`{"amount": 1, "reason": "x", "currency": "EUR", "reversal_id": "x", "transfer_id": "y", "reversed_position": 7,
			"counterparty_account_id": "z"}`,
	} {
		var f fields
		if !f.scan([]byte(payload)) {
			t.Errorf("%s took the slow path", payload)
		}
	}
}

// FuzzDecode checks, in every schema version, that the fast path agrees with the JSON library, and that what decodes can
// be encoded again.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil {
		f.Fatal(err)
	}
	for k := range kindCount {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(k), uint8(1), data)
			f.Add(uint8(k), uint8(2), data)
		}
		f.Add(uint8(k), uint8(1), []byte(`{"amount": 1, "currency": "EUR", "reference": "\u00e9\ud83d\ude00", "x": [1, {}]}`))
		f.Add(uint8(k), uint8(1), []byte(`{"amount":1e3,"amount":-0,"reason":null}`))
		f.Add(uint8(k), uint8(1), []byte(`{"amount": 1, "currency": "EUR", "metadata": {"b": "\u0000", "a": null}, "forced": false,
			"hold_id": "0198c1f0-0000-7000-8000-00000000000d", "released": 0, "expires_at": "9999-12-31T23:59:59.9999999+00:01",
			"reversal_id": "0198C1F0-0000-7000-8000-00000000000E", "reversed_position": 1, "transfer_id": null}`))
	}
	f.Add(uint8(kindCreated), uint8(1), []byte(`{"owner":"\u00e9","currency":"EUR","overdraft_limit":0,"x":{"decimals":3}}`))
	f.Fuzz(func(t *testing.T, number, version uint8, payload []byte) {
		k := kind(number) % kindCount
		fast, fastErr := Decode(kindNames[k], int(version), payload)
		var slow account.Event
		var fields fields
		upcast, slowErr := registered.upcast(k, int(version), payload)
		if slowErr == nil {
			fields, slowErr = decodeJSON(k, upcast)
		}
		if slowErr == nil {
			slow, slowErr = fields.event(k)
		}
		if (fastErr == nil) != (slowErr == nil) || fast != slow {
			t.Fatalf("%s %q: fast %+v, %v; slow %+v, %v", kindNames[k], payload, fast, fastErr, slow, slowErr)
		}
		if fastErr != nil {
			return
		}
		again, err := Encode(fast)
		if err != nil {
			if bytes.Contains(payload, []byte(`\u0000`)) {
				return // jsonb has no NUL, so the log cannot hold it
			}
			t.Fatalf("%+v: %v", fast, err)
		}
		if back, err := Decode(again.Type, again.SchemaVersion, again.Payload); err != nil || back != fast {
			t.Fatalf("%+v came back as %+v, %v", fast, back, err)
		}
	})
}

// FuzzUnmarshalState checks that every snapshot that is accepted is a state that MarshalState accepts.
func FuzzUnmarshalState(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "golden", "State.v2.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"state_version": 2, "status": "closed", "owner": "\u00e9", "currency": "JPY", "balance": -9223372036854775807,
		"overdraft_limit": 9223372036854775807, "held": 0, "holds": [], "metadata": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := UnmarshalState(data)
		if err != nil || bytes.Contains(data, []byte(`\u0000`)) {
			return
		}
		again, err := MarshalState(s)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if back, err := UnmarshalState(again); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("%+v came back as %+v, %v", s, back, err)
		}
	})
}
