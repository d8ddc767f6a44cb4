package money_test

import (
	"cmp"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"passbook/internal/money"
)

func TestAmountString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		minor    int64
		currency string
		want     string
	}{
		{1234, "EUR", "12.34"},
		{0, "EUR", "0.00"},
		{5, "EUR", "0.05"},
		{-5, "EUR", "-0.05"},
		{-50, "EUR", "-0.50"},
		{100, "EUR", "1.00"},
		{-12345, "EUR", "-123.45"},
		{0, "JPY", "0"},
		{-7, "JPY", "-7"},
		{1, "KWD", "0.001"},
		{1, "CLF", "0.0001"},
		{math.MaxInt64, "EUR", "92233720368547758.07"},
		{math.MinInt64, "EUR", "-92233720368547758.08"},
		{math.MinInt64, "JPY", "-9223372036854775808"},
		{math.MinInt64, "CLF", "-922337203685477.5808"},
	} {
		a := money.New(tt.minor, currency(t, tt.currency))
		if got := a.String(); got != tt.want {
			t.Errorf("%d %s: got %s, want %s", tt.minor, tt.currency, got, tt.want)
		}
		if got := string(a.Append([]byte("x"))); got != "x"+tt.want {
			t.Errorf("%d %s: Append gave %s", tt.minor, tt.currency, got)
		}
		if a.Sign() != cmp.Compare(tt.minor, 0) || a.IsZero() != (tt.minor == 0) {
			t.Errorf("%s: sign %d, zero %v", a, a.Sign(), a.IsZero())
		}
	}
}

func TestAmountsOfDifferentCurrencies(t *testing.T) {
	t.Parallel()
	a, b := money.New(1, currency(t, "EUR")), money.New(1, currency(t, "USD"))
	_, addErr := a.Add(b)
	_, subErr := a.Sub(b)
	_, cmpErr := a.Cmp(b)
	for _, err := range []error{addErr, subErr, cmpErr} {
		if !errors.Is(err, money.ErrCurrencyMismatch) {
			t.Errorf("got %v", err)
		}
	}
}

// int64s draws numbers of any size, often near the ends of the range.
func int64s() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{
		math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64,
	}))
}

func TestArithmeticNeverWraps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eur := currency(t, "EUR")
		a, b := money.New(int64s().Draw(t, "a"), eur), money.New(int64s().Draw(t, "b"), eur)
		bigA, bigB := big.NewInt(a.Minor()), big.NewInt(b.Minor())
		sum, err := a.Add(b)
		checkAgainstBig(t, sum, err, new(big.Int).Add(bigA, bigB))
		diff, err := a.Sub(b)
		checkAgainstBig(t, diff, err, new(big.Int).Sub(bigA, bigB))
		if got, err := a.Cmp(b); err != nil || got != bigA.Cmp(bigB) {
			t.Fatalf("Cmp(%s, %s) = %d, %v", a, b, got, err)
		}
	})
}

func checkAgainstBig(t *rapid.T, got money.Amount, err error, want *big.Int) {
	switch {
	case want.IsInt64() && (err != nil || got.Minor() != want.Int64() || got.Currency().Code() != "EUR"):
		t.Fatalf("got %s, %v; want %s", got, err, want)
	case !want.IsInt64() && !errors.Is(err, money.ErrOverflow):
		t.Fatalf("got %s, %v; want overflow", got, err)
	}
}

// The hot path of a deposit must not allocate. AllocsPerRun does not work in parallel tests.
func TestNoAllocations(t *testing.T) { //nolint:paralleltest // counts allocations of the whole process
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		c, ok := money.LookupCurrency("EUR")
		if !ok {
			t.Fatal("EUR is unknown")
		}
		if _, err := money.ParseCurrency("EUR"); err != nil {
			t.Fatal(err)
		}
		d, err := money.ParseDecimal("1234567.89")
		if err != nil {
			t.Fatal(err)
		}
		a, err := d.In(c)
		if err != nil {
			t.Fatal(err)
		}
		if a, err = a.Add(a); err != nil {
			t.Fatal(err)
		}
		buf = a.Append(buf[:0])
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
