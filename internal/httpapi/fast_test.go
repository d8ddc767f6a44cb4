package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"passbook/api"
	"passbook/internal/account"
)

// FuzzPlainMovement holds the reader of plain bodies against the general one.
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
	} {
		f.Add([]byte(body))
	}
	sp, err := loadSpec(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	s := &server{spec: sp, kinds: newCommandKinds(sp)}
	r := httptest.NewRequest(http.MethodPost, "/commands", nil)
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, new(exchange)))
	k := s.kinds[account.Deposit{}.Name()]
	f.Fuzz(func(t *testing.T, raw []byte) {
		if m, plain := readPlainMovement(raw, false); plain {
			if id, c, ok := m.build(k.name); ok {
				form, err := readForm(raw, k.schema)
				if err != nil || form.err() != nil {
					t.Fatalf("%q: plain, but %v %v", raw, err, form)
				}
				wantID, want := k.build(form, [16]byte{})
				if form.err() != nil || id != wantID || !reflect.DeepEqual(c, want) {
					t.Fatalf("%q: %v %v, want %v %v (%v)", raw, id, c, wantID, want, form.err())
				}
			}
		}
		if m, plain := readPlainMovement(raw, true); plain {
			if it, ok := s.plainItem(r, &m, "whole", 3); ok {
				want := s.readGeneralItem(r, raw, "whole", 3)
				if it.request.Key != nil && want.request.Key != nil { // functions cannot be compared
					it.request.Key.Refusal, want.request.Key.Refusal = nil, nil
				}
				if want.problem != nil || !reflect.DeepEqual(it, want) {
					t.Fatalf("%q: %+v, want %+v", raw, it, want)
				}
			}
		}
	})
}
