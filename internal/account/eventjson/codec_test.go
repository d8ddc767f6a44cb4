package eventjson_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

var (
	eur = mustCurrency("EUR")
	jpy = mustCurrency("JPY")
)

func mustCurrency(code string) money.Currency {
	c, ok := money.LookupCurrency(code)
	if !ok {
		panic(code)
	}
	return c
}

func TestUnmarshalStateRefuses(t *testing.T) {
	t.Parallel()
	valid := string(readGolden(t, "State", eventjson.StateVersion))
	for _, edit := range [][2]string{
		{`"suspended"`, `"missing"`},
		{`"suspended"`, `"asleep"`},
		{`"EUR"`, `"XAU"`},
		{`"balance":-1234,`, ``},
		{`"overdraft_limit":5000`, `"overdraft_limit":-1`},
		{`-1234`, `1.5`},
		{`-1234`, `9223372036854775807`},
		{`-1234,"overdraft_limit":5000`, `-9223372036854775807,"overdraft_limit":0`},
		{`"held":2600,`, ``},
		{`"held":2600`, `"held":2500`},
		{`"amount":100`, `"amount":-100`},
		{`"amount":100`, `"amount":9223372036854775807`},
		{`-00000000000a`, `-00000000000d`},
		{`-00000000000a`, `-00000000000f`},
		{`-00000000000a`, ``},
		{`"2026-03-01`, `"2026-03-32`},
		{`"order":"A-17"`, `"order":17`},
		{`{`, `[`},
	} {
		bad := strings.Replace(valid, edit[0], edit[1], 1)
		if s, err := eventjson.UnmarshalState([]byte(bad)); bad == valid || err == nil {
			t.Errorf("%s: got %+v", bad, s)
		}
	}
	for _, version := range []string{"0", "1", "3"} {
		bad := strings.Replace(valid, `"state_version":2`, `"state_version":`+version, 1)
		if _, err := eventjson.UnmarshalState([]byte(bad)); !errors.Is(err, eventjson.ErrUnknownSchema) {
			t.Errorf("version %s: got %v", version, err)
		}
	}
	if _, err := eventjson.MarshalState(account.State{}); err == nil {
		t.Error("a missing account was encoded")
	}
}

// A payload as PostgreSQL rewrites it, or with fields that a newer release might add, decodes to the same event.
func TestDecodeOtherSpellings(t *testing.T) {
	t.Parallel()
	want := account.MoneyDeposited{Amount: money.New(1234, eur), Reference: "a/b"}
	for _, payload := range []string{
		`{"amount": 1234, "currency": "EUR", "reference": "a/b"}`,
		"\t{ \"reference\"\n:\r\"a/b\" ,\"currency\":\"EUR\",\"amount\":1234 }\n",
		`{"amount":1234,"currency":"EUR","reference":"a\/b"}`,
		`{"amount":1234,"currency":"\u0045UR","reference":"a\u002fb"}`,
		`{"amount":1234,"currency":"EUR","reference":"a/b","later":{"x":[1,null,"y"]}}`,
		`{"amount":1234,"currency":"EUR","reference":"a/b","owner":7}`,
		`{"amount":1234,"currency":"EUR","reference":"a/b","owner":"unused"}`,
	} {
		got, err := eventjson.Decode("MoneyDeposited", 1, []byte(payload))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
	for _, payload := range []string{`{"reason":null}`, ` { } `, `{"reason":""}`} {
		if got, err := eventjson.Decode("AccountClosed", 1, []byte(payload)); err != nil || got != (account.AccountClosed{}) {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
	want.Metadata = account.NewMetadata(map[string]string{"a": "1", "b": "\u00e9"})
	for _, payload := range []string{
		`{"amount":1234,"currency":"EUR","reference":"a/b","metadata":{"a":"1","b":"é"}}`,
		`{"amount": 1234, "currency": "EUR", "metadata": {"b": "\u00e9", "a": "1"}, "reference": "a/b", "forced": 1}`,
	} {
		if got, err := eventjson.Decode("MoneyDeposited", 1, []byte(payload)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
	placed := account.HoldPlaced{HoldID: holdID, Amount: money.New(1, eur), ExpiresAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	for _, expires := range []string{
		`"2026-03-01T00:00:00.000000Z"`, `"2026-03-01T00:00:00Z"`, `"2026-03-01T01:00:00.0000009+01:00"`,
	} {
		payload := fmt.Sprintf(`{"hold_id":%q,"amount":1,"currency":"EUR","expires_at":%s}`, holdID, expires)
		if got, err := eventjson.Decode("HoldPlaced", 1, []byte(payload)); err != nil || got != placed {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
	for _, payload := range []string{
		`{"reversal_id":%q,"reversed_position":7,"amount":1,"currency":"EUR"}`,
		`{"reversal_id":%q,"reversed_position":7,"amount":1,"currency":"EUR","forced":false,"reason":"","transfer_id":null}`,
	} {
		payload = fmt.Sprintf(payload, reversalID)
		want := account.DebitReversed{Reversal: account.Reversal{ReversalID: reversalID, ReversedPosition: 7, Amount: money.New(1, eur)}}
		if got, err := eventjson.Decode("DebitReversed", 1, []byte(payload)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	const id = `"0198c1f0-0000-7000-8000-00000000000a"`
	for _, tt := range []struct{ typ, payload string }{
		{"MoneyDeposited", ``},
		{"MoneyDeposited", `{`},
		{"MoneyDeposited", `null`},
		{"MoneyDeposited", `[]`},
		{"MoneyDeposited", `{}`},
		{"MoneyDeposited", `{"amount":1}`},
		{"MoneyDeposited", `{"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":null,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":"1","currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1.5,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1e3,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":01,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":0,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":-0,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":-5,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":9223372036854775808,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1,"currency":"XAU"}`},
		{"MoneyDeposited", `{"amount":1,"currency":7}`},
		{"MoneyDeposited", `{"Amount":1,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1,"amount":2,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR","reference":5}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR"} x`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR",}`},
		{"MoneyDeposited", "{\"amount\":1,\"currency\":\"EUR\",\"reference\":\"\xff\"}"},
		{"MoneyDeposited", "{\"amount\":1,\"currency\":\"EUR\",\"reference\":\"\n\"}"},
		{"AccountCreated", `{"owner":"A","currency":"EUR"}`},
		{"AccountCreated", `{"owner":"A","currency":"EUR","overdraft_limit":-1}`},
		{"AccountCreated", `{"owner":"A","currency":"eur","overdraft_limit":0}`},
		{"AccountCreated", `{"owner":"A","overdraft_limit":0}`},
		{"AccountCreated", `{"owner":"A","currency":null,"overdraft_limit":0}`},
		{"AccountCreated", `null`},
		{"AccountCreated", `[]`},
		{"AccountCreated", `{}`},
		{"AccountCreated", `}`},
		{"TransferSent", `{"transfer_id":` + id + `,"from_account_id":` + id + `,"amount":1,"currency":"EUR"}`},
		{"TransferSent", `{"transfer_id":"x","to_account_id":` + id + `,"amount":1,"currency":"EUR"}`},
		{"TransferSent", `{"transfer_id":` + id + `,"to_account_id":"{0198c1f0}","amount":1,"currency":"EUR"}`},
		{"TransferReceived", `{"transfer_id":` + id + `,"from_account_id":"0198c1f0-0000-7000-8000-00000000000g","amount":1,"currency":"EUR"}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR","metadata":"x"}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR","metadata":{"a":1}}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR","metadata":{"a":{}}}`},
		{"MoneyDeposited", `{"amount":1,"currency":"EUR","metadata":{"a":"1","a":"2"}}`},
		{"OwnerChanged", `{}`},
		{"OwnerChanged", `{"owner":null}`},
		{"OverdraftLimitChanged", `{"overdraft_limit":1}`},
		{"OverdraftLimitChanged", `{"currency":"EUR"}`},
		{"OverdraftLimitChanged", `{"overdraft_limit":-1,"currency":"EUR"}`},
		{"OverdraftLimitChanged", `{"overdraft_limit":1,"currency":"XAU"}`},
		{"MetadataChanged", `{}`},
		{"MetadataChanged", `{"metadata":null}`},
		{"HoldPlaced", `{"amount":1,"currency":"EUR"}`},
		{"HoldPlaced", `{"hold_id":` + id + `,"currency":"EUR"}`},
		{"HoldPlaced", `{"hold_id":"x","amount":1,"currency":"EUR"}`},
		{"HoldPlaced", `{"hold_id":` + id + `,"amount":0,"currency":"EUR"}`},
		{"HoldPlaced", `{"hold_id":` + id + `,"amount":1,"currency":"EUR","expires_at":""}`},
		{"HoldPlaced", `{"hold_id":` + id + `,"amount":1,"currency":"EUR","expires_at":"tomorrow"}`},
		{"HoldPlaced", `{"hold_id":` + id + `,"amount":1,"currency":"EUR","expires_at":"9999-12-31T23:00:00-01:00"}`},
		{"HoldCaptured", `{"hold_id":` + id + `,"amount":1,"currency":"EUR"}`},
		{"HoldCaptured", `{"hold_id":` + id + `,"amount":1,"currency":"EUR","released":-1}`},
		{"HoldReleased", `{"hold_id":` + id + `,"amount":1}`},
		{"HoldExpired", `{"hold_id":` + id + `}`},
		{"CreditReversed", `{"reversal_id":` + id + `,"amount":1,"currency":"EUR"}`},
		{"CreditReversed", `{"reversal_id":` + id + `,"reversed_position":0,"amount":1,"currency":"EUR"}`},
		{"CreditReversed", `{"reversal_id":"x","reversed_position":1,"amount":1,"currency":"EUR"}`},
		{"CreditReversed", `{"reversed_position":1,"amount":1,"currency":"EUR"}`},
		{"DebitReversed", `{"reversal_id":` + id + `,"reversed_position":1,"currency":"EUR"}`},
		{"DebitReversed", `{"reversal_id":` + id + `,"reversed_position":1,"amount":1,"currency":"EUR","forced":"yes"}`},
		{"DebitReversed", `{"reversal_id":` + id + `,"reversed_position":1,"amount":1,"currency":"EUR","transfer_id":"x"}`},
		{"DebitReversed", `{"reversal_id":` + id + `,"reversed_position":1,"amount":1,"currency":"EUR","counterparty_account_id":"x"}`},
		{"AccountClosed", `null`},
		{"AccountClosed", `{"reason":1}`},
	} {
		for version := 1; version <= eventjson.SchemaVersion(tt.typ); version++ {
			if e, err := eventjson.Decode(tt.typ, version, []byte(tt.payload)); err == nil || e != nil {
				t.Errorf("%s v%d %s: got %+v, %v", tt.typ, version, tt.payload, e, err)
			}
		}
	}
}

// A log says how many decimals its amounts have; code that knows another number for the currency must refuse to decode them.
func TestDecodeDecimals(t *testing.T) {
	t.Parallel()
	for payload, ok := range map[string]bool{
		`{"owner":"A","currency":"EUR","overdraft_limit":0,"decimals":2}`:   true,
		`{"owner":"A","currency":"EUR","overdraft_limit":0,"decimals":3}`:   false,
		`{"owner":"A","currency":"JPY","overdraft_limit":0,"decimals":2}`:   false,
		`{"owner":"A","currency":"JPY","overdraft_limit":0,"decimals":0}`:   true,
		`{"owner":"A","currency":"EUR","overdraft_limit":0}`:                false,
		`{"owner":"A","currency":"EUR","overdraft_limit":0,"decimals":"2"}`: false,
	} {
		if e, err := eventjson.Decode("AccountCreated", 2, []byte(payload)); (err == nil) != ok {
			t.Errorf("%s: got %+v, %v", payload, e, err)
		}
	}
}

// The upcaster accepts whatever a payload of version 1 may contain: escapes, other spellings, unknown fields.
func TestUpcastAccountCreated(t *testing.T) {
	t.Parallel()
	want := account.AccountCreated{Owner: `A } "é`, Currency: jpy, OverdraftLimit: 7}
	for _, payload := range []string{
		`{"owner":"A } \"é","currency":"JPY","overdraft_limit":7}`,
		` { "currency" : "JPY" , "overdraft_limit" : 7, "owner": "A } \"\u00e9" } ` + "\n",
		`{"owner":"A } \"é","currency":"\u004aPY","overdraft_limit":7,"later":{"x":{}}}`,
	} {
		if got, err := eventjson.Decode("AccountCreated", 1, []byte(payload)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", payload, got, err)
		}
	}
}

func TestDecodeUnknown(t *testing.T) {
	t.Parallel()
	if _, err := eventjson.Decode("MoneyBurnt", 1, []byte(`{}`)); !errors.Is(err, eventjson.ErrUnknownType) {
		t.Errorf("type: got %v", err)
	}
	for _, version := range []int{-1, 0, eventjson.SchemaVersion("AccountClosed") + 1} {
		if _, err := eventjson.Decode("AccountClosed", version, []byte(`{}`)); !errors.Is(err, eventjson.ErrUnknownSchema) {
			t.Errorf("version %d: got %v", version, err)
		}
	}
	if eventjson.SchemaVersion("MoneyBurnt") != 0 {
		t.Error("MoneyBurnt has a schema version")
	}
}

// Events in a currency that ISO 4217 has withdrawn stay readable.
func TestDecodeWithdrawnCurrency(t *testing.T) {
	t.Parallel()
	e, err := eventjson.Decode("MoneyDeposited", 1, []byte(`{"amount":1,"currency":"HRK"}`))
	if err != nil || e.(account.MoneyDeposited).Amount.String() != "0.01" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for _, e := range []account.Event{
		account.AccountCreated{Owner: "A"},
		account.AccountCreated{Owner: "A", Currency: eur, OverdraftLimit: -1},
		account.AccountCreated{Owner: "\xff", Currency: eur},
		account.MoneyDeposited{},
		account.MoneyDeposited{Amount: money.New(0, eur)},
		account.MoneyWithdrawn{Amount: money.New(-1, eur)},
		account.MoneyDeposited{Amount: money.New(1, eur), Reference: "\x00"},
		account.AccountClosed{Reason: "\xff"},
		account.MoneyDeposited{Amount: money.New(1, eur), Metadata: account.NewMetadata(map[string]string{"a": "\x00"})},
		account.MoneyDeposited{Amount: money.New(1, eur), Metadata: account.NewMetadata(map[string]string{"\xff": "a"})},
		account.OwnerChanged{Owner: "\x00"},
		account.OverdraftLimitChanged{OverdraftLimit: -1, Currency: eur},
		account.OverdraftLimitChanged{OverdraftLimit: 1},
		account.MetadataChanged{Metadata: account.NewMetadata(map[string]string{"a": "\xff"})},
		account.HoldPlaced{HoldID: holdID},
		account.HoldPlaced{HoldID: holdID, Amount: money.New(1, eur), ExpiresAt: time.Unix(0, 1)},
		account.HoldPlaced{HoldID: holdID, Amount: money.New(1, eur), ExpiresAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		account.HoldPlaced{HoldID: holdID, Amount: money.New(1, eur), Reference: "\x00"},
		account.HoldCaptured{HoldID: holdID, Amount: money.New(1, eur), Released: -1},
		account.HoldCaptured{HoldID: holdID},
		account.HoldReleased{HoldID: holdID, Amount: money.New(1, eur), Reason: "\xff"},
		account.HoldExpired{HoldID: holdID},
		account.CreditReversed{Reversal: account.Reversal{Amount: money.New(1, eur)}},
		account.DebitReversed{Reversal: account.Reversal{ReversedPosition: 1}},
		&account.AccountClosed{},
	} {
		if got, err := eventjson.Encode(e); err == nil {
			t.Errorf("%+v: encoded as %s", e, got.Payload)
		}
		if dst, err := eventjson.AppendPayload([]byte("kept"), e); err == nil || string(dst) != "kept" {
			t.Errorf("%+v: got %s, %v", e, dst, err)
		}
	}
}

// The hot paths allocate only what they return. AllocsPerRun does not work in parallel tests.
func TestAllocations(t *testing.T) { //nolint:paralleltest // counts allocations of the whole process
	var event account.Event = account.MoneyDeposited{Amount: money.New(1234, eur), Reference: "salary"}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		var err error
		if buf, err = eventjson.AppendPayload(buf[:0], event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("AppendPayload: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := eventjson.Decode("MoneyDeposited", 1, buf); err != nil {
			t.Fatal(err)
		}
	}); n > 2 { // the event and its reference
		t.Errorf("Decode: %v allocations", n)
	}
}

// BenchmarkDecode compares Decode with libraries that do the same; the comment of scan has the figures.
func BenchmarkDecode(b *testing.B) {
	payload := []byte(`{"amount": 1234, "currency": "EUR", "reference": "salary"}`)
	library := func(unmarshal func([]byte, any) error) func() (account.Event, error) {
		return func() (account.Event, error) {
			var m struct {
				Amount    int64  `json:"amount"`
				Currency  string `json:"currency"`
				Reference string `json:"reference"`
			}
			if err := unmarshal(payload, &m); err != nil {
				return nil, err
			}
			c, ok := money.LookupCurrency(m.Currency)
			if !ok || m.Amount <= 0 {
				return nil, money.ErrUnknownCurrency
			}
			return account.MoneyDeposited{Amount: money.New(m.Amount, c), Reference: m.Reference}, nil
		}
	}
	for _, way := range []struct {
		name   string
		decode func() (account.Event, error)
	}{
		{"scan", func() (account.Event, error) { return eventjson.Decode("MoneyDeposited", 1, payload) }},
		{"go-json-experiment", library(func(p []byte, v any) error { return jsonv2.Unmarshal(p, v) })},
		{"encoding-json", library(json.Unmarshal)},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := way.decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPayload(b *testing.B) {
	var e account.Event = account.MoneyDeposited{Amount: money.New(1234, eur), Reference: "salary"}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = eventjson.AppendPayload(buf[:0], e); err != nil {
			b.Fatal(err)
		}
	}
}
