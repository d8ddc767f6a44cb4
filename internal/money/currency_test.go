package money_test

import (
	"errors"
	"testing"

	"passbook/internal/money"
)

func TestParseCurrencyExponents(t *testing.T) {
	t.Parallel()
	// As in ISO 4217, which differs from CLDR for many of these.
	for code, want := range map[string]int{
		"EUR": 2, "USD": 2, "GBP": 2, "CHF": 2, "CAD": 2, "MXN": 2, "CZK": 2, "HUF": 2, "TWD": 2, "INR": 2,
		"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "ISK": 0, "XAF": 0, "XOF": 0, "XPF": 0, "UGX": 0, "PYG": 0,
		"BIF": 0, "DJF": 0, "GNF": 0, "KMF": 0, "RWF": 0, "VUV": 0, "UYI": 0,
		"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
		"CLF": 4, "UYW": 4,
		"AFN": 2, "ALL": 2, "AMD": 2, "BYN": 2, "GYD": 2, "IDR": 2, "IRR": 2, "KPW": 2, "LAK": 2, "LBP": 2,
		"MGA": 2, "MMK": 2, "MNT": 2, "MRU": 2, "MUR": 2, "PKR": 2, "RSD": 2, "SOS": 2, "SYP": 2, "TZS": 2,
		"UZS": 2, "YER": 2, "COP": 2, "CRC": 2, "ZMW": 2, "STN": 2,
		"BOV": 2, "CHE": 2, "CHW": 2, "COU": 2, "MXV": 2, "USN": 2,
		"SLE": 2, "VED": 2, "VES": 2, "XAD": 2, "XCD": 2, "XCG": 2, "ZWG": 2,
	} {
		c, err := money.ParseCurrency(code)
		if err != nil {
			t.Errorf("%s: %v", code, err)
			continue
		}
		if c.Code() != code || c.String() != code || c.Exponent() != want || c.IsZero() || !c.Active() {
			t.Errorf("%s: got %q with %d decimals, want %d", code, c.Code(), c.Exponent(), want)
		}
	}
}

func TestParseCurrencyRefuses(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"", "E", "EU", "EURO", "eur", "Eur", " EUR", "EUR ", "E R", "978", "EÜR", "€", "\x00\x00\x00", "AAA", "ZZZ",
		"XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX",
		"ANG", "BGN", "CUC", "HRK", "SLL", "ZWL", "DEM", "BTC", "GGP", "VEF", "MRO", "STD", "BYR",
	} {
		c, err := money.ParseCurrency(code)
		if !errors.Is(err, money.ErrUnknownCurrency) || !c.IsZero() {
			t.Errorf("%q: got %v, %v", code, c, err)
		}
	}
}

func TestLookupCurrencyKnowsWithdrawn(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"ANG", "BGN", "CUC", "HRK", "SLL", "ZWL"} {
		c, ok := money.LookupCurrency(code)
		if !ok || c.Code() != code || c.Exponent() != 2 || c.Active() {
			t.Errorf("%s: got %v, %v", code, c, ok)
		}
	}
	if _, ok := money.LookupCurrency("XAU"); ok {
		t.Error("XAU has no minor unit")
	}
}

func TestZeroCurrency(t *testing.T) {
	t.Parallel()
	var c money.Currency
	if c.Code() != "" || c.Exponent() != 0 || !c.IsZero() || c.Active() {
		t.Errorf("zero currency: %q %d", c.Code(), c.Exponent())
	}
}

// TestCurrencyTable looks up every code of the table, and compares their number with ISO 4217's.
func TestCurrencyTable(t *testing.T) {
	t.Parallel()
	active := 0
	for n := range 26 * 26 * 26 {
		code := string([]byte{byte('A' + n/676), byte('A' + n/26%26), byte('A' + n%26)})
		c, ok := money.LookupCurrency(code)
		if !ok {
			continue
		}
		if c.Code() != code {
			t.Errorf("%s is found as %s", code, c.Code())
		}
		if c.Active() {
			active++
		}
	}
	if want := 165; active != want {
		t.Errorf("%d active currencies, want %d", active, want)
	}
}
