package money_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"passbook/internal/money"
)

func currency(t interface{ Fatal(...any) }, code string) money.Currency {
	c, err := money.ParseCurrency(code)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseDecimalIn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, currency string
		want           int64
	}{
		{"12.34", "EUR", 1234},
		{"100", "EUR", 10000},
		{"0.01", "EUR", 1},
		{"7.65", "EUR", 765},
		{"7.6", "EUR", 760},
		{"0", "EUR", 0},
		{"0.00", "EUR", 0},
		{"0.5", "EUR", 50},
		{"1", "JPY", 1},
		{"1.234", "KWD", 1234},
		{"1.2345", "CLF", 12345},
		{"1", "CLF", 10000},
		{"92233720368547758.07", "EUR", 9223372036854775807},
		{"9223372036854775807", "JPY", 9223372036854775807},
		{"922337203685477.5807", "UYW", 9223372036854775807},
	} {
		d, err := money.ParseDecimal(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if d.String() != tt.text {
			t.Errorf("%s: String is %s", tt.text, d)
		}
		a, err := d.In(currency(t, tt.currency))
		if err != nil || a.Minor() != tt.want || a.Currency().Code() != tt.currency {
			t.Errorf("%s %s: got %d %v, %v; want %d", tt.text, tt.currency, a.Minor(), a.Currency(), err, tt.want)
		}
		if d.IsZero() != (tt.want == 0) {
			t.Errorf("%s: IsZero is %v", tt.text, d.IsZero())
		}
	}
}

func TestParseDecimalRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text   string
		reason error
		detail string
	}{
		{"", money.ErrMalformed, "is empty"},
		{"-1", money.ErrNegative, "must not be negative"},
		{"-0", money.ErrNegative, "must not be negative"},
		{"-0.01", money.ErrNegative, "must not be negative"},
		{"-", money.ErrMalformed, "must be a decimal number"},
		{"-Infinity", money.ErrMalformed, "must be a decimal number"},
		{"--1", money.ErrMalformed, "must be a decimal number"},
		{"+1", money.ErrMalformed, "must be a decimal number"},
		{"NaN", money.ErrMalformed, `not "NaN"`},
		{"Infinity", money.ErrMalformed, `not "Infinity"`},
		{"inf", money.ErrMalformed, `not "inf"`},
		{"1e3", money.ErrExponent, "must not have an exponent"},
		{"1E3", money.ErrExponent, "must not have an exponent"},
		{"1.5e-3", money.ErrExponent, "must not have an exponent"},
		{"1e+400000000", money.ErrExponent, "must not have an exponent"},
		{"e3", money.ErrMalformed, "must be a decimal number"},
		{"1euro", money.ErrMalformed, "must be a decimal number"},
		{".5", money.ErrMalformed, "must be a decimal number"},
		{"5.", money.ErrMalformed, "must be a decimal number"},
		{".", money.ErrMalformed, "must be a decimal number"},
		{"1.2.3", money.ErrMalformed, "must be a decimal number"},
		{"1..2", money.ErrMalformed, "must be a decimal number"},
		{"1,5", money.ErrMalformed, "must be a decimal number"},
		{"1 000", money.ErrMalformed, "must be a decimal number"},
		{"1_000", money.ErrMalformed, "must be a decimal number"},
		{" 1", money.ErrMalformed, "must be a decimal number"},
		{"1 ", money.ErrMalformed, "must be a decimal number"},
		{"1\n", money.ErrMalformed, "must be a decimal number"},
		{"1\x00", money.ErrMalformed, "must be a decimal number"},
		{"0x10", money.ErrMalformed, "must be a decimal number"},
		{"1/2", money.ErrMalformed, "must be a decimal number"},
		{"١٢٣", money.ErrMalformed, "must be a decimal number"},
		{"１２", money.ErrMalformed, "must be a decimal number"},
		{"\xff\xfe", money.ErrMalformed, "must be a decimal number"},
		{"null", money.ErrMalformed, "must be a decimal number"},
		{"[1]", money.ErrMalformed, "must be a decimal number"},
		{"007.50", money.ErrMalformed, "leading zeros"},
		{"00", money.ErrMalformed, "leading zeros"},
		{"01", money.ErrMalformed, "leading zeros"},
		{"12345678901234567890123", money.ErrOverflow, "too large"},
		{"9223372036854775808", money.ErrOverflow, "too large"},
		{"18446744073709551617", money.ErrOverflow, "too large"},
		{"0.99999999999999999999", money.ErrTooManyDecimals, "no currency has more than 4"},
		{"1" + strings.Repeat("0", 100), money.ErrOverflow, "too long"},
		{strings.Repeat("x", 1<<20), money.ErrOverflow, "too long"},
	} {
		_, err := money.ParseDecimal(tt.text)
		checkParseError(t, tt.text[:min(len(tt.text), 40)], err, tt.reason, tt.detail)
	}
}

func TestDecimalInRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text, currency string
		reason         error
		detail         string
	}{
		{"12.345", "EUR", money.ErrTooManyDecimals, "has 3 decimals; EUR has 2"},
		{"12.340", "EUR", money.ErrTooManyDecimals, "has 3 decimals; EUR has 2"},
		{"1.0", "JPY", money.ErrTooManyDecimals, "has 1 decimal; JPY has none"},
		{"1.2345", "KWD", money.ErrTooManyDecimals, "has 4 decimals; KWD has 3"},
		{"0.00001", "CLF", money.ErrTooManyDecimals, "has 5 decimals; CLF has 4"},
		{"92233720368547758.08", "EUR", money.ErrOverflow, "at most 92233720368547758.07 EUR"},
		{"92233720368547759", "EUR", money.ErrOverflow, "at most 92233720368547758.07 EUR"},
		{"9223372036854775807", "EUR", money.ErrOverflow, "at most 92233720368547758.07 EUR"},
		{"9223372036854775807", "CLF", money.ErrOverflow, "at most 922337203685477.5807 CLF"},
	} {
		d, err := money.ParseDecimal(tt.text)
		if err == nil {
			_, err = d.In(currency(t, tt.currency))
		}
		if tt.text == "92233720368547758.08" {
			tt.detail = "too large" // over int64 whatever the currency
		}
		checkParseError(t, tt.text+" "+tt.currency, err, tt.reason, tt.detail)
	}
	if _, err := (money.Decimal{}).In(money.Currency{}); !errors.Is(err, money.ErrUnknownCurrency) {
		t.Errorf("no currency: got %v", err)
	}
}

func checkParseError(t *testing.T, name string, err, reason error, detail string) {
	t.Helper()
	var pe *money.ParseError
	if !errors.As(err, &pe) || !errors.Is(err, reason) || !strings.Contains(pe.Detail, detail) ||
		len(pe.Detail) > 120 || err.Error() != "amount "+pe.Detail {
		t.Errorf("%q: got %v, want %v with %q", name, err, reason, detail)
	}
}

func anyCurrency() *rapid.Generator[money.Currency] {
	return rapid.Custom(func(t *rapid.T) money.Currency {
		return currency(t, rapid.SampledFrom([]string{"JPY", "EUR", "USD", "KWD", "CLF"}).Draw(t, "code"))
	})
}

func TestParseFormatRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := money.New(rapid.Int64Min(0).Draw(t, "minor"), anyCurrency().Draw(t, "currency"))
		d, err := money.ParseDecimal(want.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.In(want.Currency())
		if err != nil || got != want {
			t.Fatalf("%v: got %v, %v", want, got, err)
		}
	})
}

func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{
		"", "0", "12.34", "-1", "1e3", "NaN", "007.50", "9223372036854775807", "9223372036854775808", "18446744073709551617",
		"0.9999999999999999999", "1.", ".1", "١", "\xff", "92233720368547758.07", "0.000000000000000000000000001",
	} {
		f.Add(seed)
	}
	currencies := []money.Currency{currency(f, "JPY"), currency(f, "EUR"), currency(f, "KWD"), currency(f, "CLF")}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := money.ParseDecimal(text)
		if err != nil {
			var pe *money.ParseError
			if !errors.As(err, &pe) || pe.Reason == nil || pe.Detail == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if d.String() != text {
			t.Fatalf("%q is written %q", text, d)
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok || want.Sign() < 0 {
			t.Fatalf("%q was accepted", text)
		}
		for _, c := range currencies {
			a, err := d.In(c)
			if err != nil {
				continue
			}
			unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(c.Exponent())), nil)
			if got := big.NewRat(1, 1).SetFrac(big.NewInt(a.Minor()), unit); got.Cmp(want) != 0 {
				t.Fatalf("%q in %s is %s", text, c, a)
			}
		}
	})
}
