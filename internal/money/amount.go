package money

import (
	"cmp"
	"errors"
	"strconv"
)

// ErrCurrencyMismatch means that two amounts of different currencies were combined or compared.
var ErrCurrencyMismatch = errors.New("amounts of different currencies")

// Amount is a number of minor units of a currency: 1234 of EUR is 12.34 EUR. It may be negative. It is comparable
// with ==. The zero value is zero of no currency.
type Amount struct {
	minor    int64
	currency Currency
}

// New returns an amount of minor units of c.
func New(minor int64, c Currency) Amount { return Amount{minor: minor, currency: c} }

// Minor returns the number of minor units.
func (a Amount) Minor() int64 { return a.minor }

// Currency returns the amount's currency.
func (a Amount) Currency() Currency { return a.currency }

// IsZero reports whether the amount is zero, of whatever currency.
func (a Amount) IsZero() bool { return a.minor == 0 }

// Sign returns -1, 0 or 1.
func (a Amount) Sign() int { return cmp.Compare(a.minor, 0) }

// Add returns a + b, or ErrCurrencyMismatch, or ErrOverflow when the sum does not fit int64.
func (a Amount) Add(b Amount) (Amount, error) {
	if a.currency != b.currency {
		return Amount{}, ErrCurrencyMismatch
	}
	sum, ok := AddMinor(a.minor, b.minor)
	if !ok {
		return Amount{}, ErrOverflow
	}
	return Amount{minor: sum, currency: a.currency}, nil
}

// Sub returns a - b, or ErrCurrencyMismatch, or ErrOverflow when the difference does not fit int64.
func (a Amount) Sub(b Amount) (Amount, error) {
	if a.currency != b.currency {
		return Amount{}, ErrCurrencyMismatch
	}
	diff, ok := SubMinor(a.minor, b.minor)
	if !ok {
		return Amount{}, ErrOverflow
	}
	return Amount{minor: diff, currency: a.currency}, nil
}

// Cmp returns -1, 0 or 1 as a is less than, equal to or more than b, or ErrCurrencyMismatch.
func (a Amount) Cmp(b Amount) (int, error) {
	if a.currency != b.currency {
		return 0, ErrCurrencyMismatch
	}
	return cmp.Compare(a.minor, b.minor), nil
}

// AddMinor adds two numbers of minor units; ok is false when the sum does not fit int64.
func AddMinor(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (sum > a) == (b > 0)
}

// SubMinor subtracts b from a; ok is false when the difference does not fit int64.
func SubMinor(a, b int64) (diff int64, ok bool) {
	diff = a - b
	return diff, (diff < a) == (b > 0)
}

// String returns the number with all the decimals of its currency and without the code: "12.34", "-0.05", "100".
func (a Amount) String() string { return FormatMinor(a.minor, a.currency) }

// Append appends String to dst.
func (a Amount) Append(dst []byte) []byte {
	return appendDecimal(dst, a.minor, a.currency.Exponent())
}

// FormatMinor is New(minor, c).String().
func FormatMinor(minor int64, c Currency) string {
	var buf [32]byte
	return string(appendDecimal(buf[:0], minor, c.Exponent()))
}

// appendDecimal appends digits with a point before the last scale digits.
func appendDecimal(dst []byte, digits int64, scale int) []byte {
	magnitude := uint64(digits) // two's complement, negated below
	if digits < 0 {
		dst = append(dst, '-')
		magnitude = -magnitude
	}
	var buf [20]byte // math.MaxUint64 has 20 digits
	text := strconv.AppendUint(buf[:0], magnitude, 10)
	if scale == 0 {
		return append(dst, text...)
	}
	if whole := len(text) - scale; whole > 0 {
		dst = append(dst, text[:whole]...)
		dst = append(dst, '.')
		return append(dst, text[whole:]...)
	}
	dst = append(dst, '0', '.')
	for range scale - len(text) {
		dst = append(dst, '0')
	}
	return append(dst, text...)
}
