package request

import (
	"reflect"
	"testing"

	"github.com/go-json-experiment/json"

	"passbook/api"
	"passbook/internal/account"
)

// FuzzPlainMovement compares the reader of plain bodies with the general one.
func FuzzPlainMovement(f *testing.F) {
	const id = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"
	for _, body := range []string{
		`{"account_id":"` + id + `","amount":"12.34"}`,
		` { "amount" : 12.34 , "account_id" : "` + id + `" , "currency":"EUR","reference":"invoice 17" } `,
		`{"command":"deposit","account_id":"` + id + `","amount":1,"idempotency_key":"k1"}`,
		`{"account_id":"` + id + `","amount":"1","amount":"2"}`,
		`{"account_id":"` + id + `","amount":01}`, `{"account_id":"` + id + `","amount":1.}`, `{"account_id":"` + id + `","amount":1,}`,
		`{"account_id":"` + id + `","amount":""}`, `{"account_id":"` + id + `","amount":"1","reference":""}`, `{}`, `{"amount":1}x`,
		`{"account_id":"` + id + `","amount":"1","currency":"XXX"}`, `{"account_id":"` + id + `","amount":"1","reference":"\\n"}`,
		`{"command":"withdraw","account_id":"` + id + `","amount":1,"idempotency_key":"a b"}`,
		`{"account_id":"` + id + `","amount":1,"metadata":{"colour":"red"}}`, `{"command":"deposit","account_id":"` + id + `","amount":1,"metadata":{}}`,
	} {
		f.Add([]byte(body))
	}
	sp, err := Load(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	k := sp.Kind(account.Deposit{}.Name())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, plain := readPlainMovement(raw, false); plain {
			if c := (Command{Kind: k}); m.build(&c) {
				form, err := readForm(raw, k.schema)
				if err != nil || form.err() != nil {
					t.Fatalf("%q: plain, but %v %v", raw, err, form)
				}
				wantID, want := k.build(form, Path{})
				if form.err() != nil || c.AccountID != wantID || !reflect.DeepEqual(c.Command, want) {
					t.Fatalf("%q: %v %v, want %v %v (%v)", raw, c.AccountID, c.Command, wantID, want, form.err())
				}
			}
		}
		if m, plain := readPlainMovement(raw, true); plain {
			if c, ok := sp.plainItem(&m, "whole", 3); ok {
				want, err := sp.generalItem(raw, "whole", 3)
				if err != nil || c.Fingerprint == [16]byte{} || c.Kind != want.Kind {
					t.Fatalf("%q: %+v, want %+v, %v", raw, c, want, err)
				}
				c.Kind, want.Kind = nil, nil // it has a function, which cannot be compared
				if !reflect.DeepEqual(c, want) {
					t.Fatalf("%q: %+v, want %+v", raw, c, want)
				}
			}
		}
	})
}

// BenchmarkDepositBody compares the reader of plain bodies with go-json-experiment/json into a struct, which skips the checks of
// the specification, and with the general reader, which makes them.
func BenchmarkDepositBody(b *testing.B) {
	raw := []byte(`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":"12.34","currency":"EUR","reference":"invoice 17"}`)
	sp, err := Load(api.Document())
	if err != nil {
		b.Fatal(err)
	}
	k := sp.Kind(account.Deposit{}.Name())
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := Command{Kind: k}
			if m, plain := readPlainMovement(raw, false); !plain || !m.build(&c) {
				b.Fatal("not plain")
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var body struct {
				AccountID string `json:"account_id"`
				Amount    string `json:"amount"`
				Currency  string `json:"currency"`
				Reference string `json:"reference"`
			}
			if err := json.Unmarshal(raw, &body, json.RejectUnknownMembers(true)); err != nil {
				b.Fatal(err)
			}
			m := plainMovement{
				accountID: []byte(body.AccountID), amount: []byte(body.Amount),
				currency: []byte(body.Currency), reference: []byte(body.Reference),
			}
			if c := (Command{Kind: k}); !m.build(&c) {
				b.Fatal("not built")
			}
		}
	})
	b.Run("general", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := readForm(raw, k.schema)
			if err != nil {
				b.Fatal(err)
			}
			if k.build(f, Path{}); f.err() != nil {
				b.Fatal(f.err())
			}
		}
	})
}
