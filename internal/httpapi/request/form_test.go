package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"passbook/api"
	"passbook/internal/money"
)

// Any body is accepted or refused with a client error; an accepted amount is exactly its text.
func FuzzAmountBody(f *testing.F) {
	for _, amount := range []string{
		`"12.34"`, `12.34`, `100`, `0.01`, `-1`, `1e3`, `NaN`, `null`, `[]`, `{}`, `""`, `"١"`, `01`, `1.0e`, `"\u0031"`, "1,\"amount\":2",
	} {
		f.Add([]byte(`{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","amount":` + amount + `}`))
	}
	f.Add([]byte(`{"a":[{"b":null}],"amount":{"amount":[1]}}`))
	sp, err := Load(api.Document())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		form, err := readForm(raw, sp.moneyMovement)
		if err == nil {
			var amount money.Decimal
			id := form.id("account_id")
			amount, ok := form.decimal("amount")
			_ = form.currency(money.LookupCurrency)
			err = form.err()
			if err == nil && (!ok || id == (uuid.UUID{})) {
				t.Fatalf("%q: taken without an amount or an account", raw)
			}
			if text := fmt.Sprint(form.members["amount"]); ok && amount.String() != text {
				t.Fatalf("%q: the amount is %s", raw, amount)
			}
		}
		if err == nil {
			return
		}
		var bad *Error
		if !errors.As(err, &bad) || bad.Detail == "" {
			t.Fatalf("%q: %v", raw, err)
		}
		if _, err := json.Marshal(bad); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}
