package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Reasons to refuse a decimal text. Each *ParseError matches exactly one of them with errors.Is.
var (
	// ErrMalformed: not digits with at most one point between them.
	ErrMalformed = errors.New("malformed decimal")
	// ErrNegative: starts with a minus sign.
	ErrNegative = errors.New("negative amount")
	// ErrExponent: written in scientific notation.
	ErrExponent = errors.New("decimal with an exponent")
	// ErrTooManyDecimals: more decimals than the currency, or any currency, has.
	ErrTooManyDecimals = errors.New("too many decimals")
	// ErrOverflow: beyond 64-bit signed minor units. Add and Sub also return it.
	ErrOverflow = errors.New("amount overflows 64-bit minor units")
)

// ParseError says why a text is not an amount.
type ParseError struct {
	// Reason is one of ErrMalformed, ErrNegative, ErrExponent, ErrTooManyDecimals, ErrOverflow.
	Reason error
	// Detail says what is wrong, as the rest of a sentence that begins with the name of the field:
	// "must not be negative", "has 3 decimals; EUR has 2".
	Detail string
}

func (e *ParseError) Error() string { return "amount " + e.Detail }

// Unwrap returns Reason.
func (e *ParseError) Unwrap() error { return e.Reason }

// Decimal is an exact decimal number, zero or positive, whose currency is not known yet. It remembers how many
// decimals it was written with. The zero value is 0.
type Decimal struct {
	digits int64 // the number without its point
	scale  uint8 // how many of the digits are decimals
}

// maxTextLen bounds the text that ParseDecimal reads. It is far longer than any amount that fits, so that
// the error for a text that does not fit can still say what is wrong with it.
const maxTextLen = 100

// ParseDecimal reads a decimal from its literal text: ASCII digits, or digits, a point and digits. A sign, an
// exponent, leading zeros, spaces and anything else are refused with a *ParseError. The number must fit int64
// without its point.
func ParseDecimal(text string) (Decimal, error) {
	if len(text) > maxTextLen {
		return Decimal{}, &ParseError{ErrOverflow, fmt.Sprintf("is too long: at most %d characters", maxTextLen)}
	}
	var digits int64
	point := -1
	overflow := false
	for i := range len(text) {
		b := text[i]
		switch {
		case b-'0' <= 9:
			if digit := int64(b - '0'); digits <= (math.MaxInt64-digit)/10 {
				digits = digits*10 + digit
			} else {
				overflow = true
			}
		case b == '.' && point < 0:
			point = i
		default:
			return Decimal{}, explain(text)
		}
	}
	whole, scale := text, 0
	if point >= 0 {
		whole, scale = text[:point], len(text)-point-1
	}
	if overflow || whole == "" || point >= 0 && scale == 0 || len(whole) > 1 && whole[0] == '0' {
		return Decimal{}, explain(text)
	}
	return Decimal{digits: digits, scale: uint8(scale)}, nil // bounded above
}

// explain returns the most helpful reason for a text that ParseDecimal has refused.
func explain(text string) *ParseError {
	if text == "" {
		return &ParseError{ErrMalformed, `is empty; write a decimal such as "12.34"`}
	}
	if text[0] == '-' {
		if len(text) > 1 && text[1]-'0' <= 9 {
			return &ParseError{ErrNegative, "must not be negative"}
		}
		return malformed(text)
	}
	whole, rest, hasPoint := strings.Cut(text, ".")
	mantissa := strings.TrimLeft(whole+rest, "0123456789")
	if text[0]-'0' <= 9 && mantissa != "" && mantissa[0]|0x20 == 'e' &&
		strings.Trim(mantissa[1:], "+-0123456789.") == "" {
		return &ParseError{ErrExponent, `must not have an exponent; write the number out, such as "1000"`}
	}
	if mantissa != "" || whole == "" || hasPoint && rest == "" {
		return malformed(text)
	}
	if len(whole) > 1 && whole[0] == '0' {
		return &ParseError{ErrMalformed, "must not have leading zeros"}
	}
	if len(whole) < 19 && len(rest) > MaxExponent {
		return &ParseError{
			ErrTooManyDecimals,
			fmt.Sprintf("has %d decimals; no currency has more than %d", len(rest), MaxExponent),
		}
	}
	return &ParseError{ErrOverflow, "is too large: at most 9223372036854775807 minor units of the currency"}
}

func malformed(text string) *ParseError {
	return &ParseError{ErrMalformed, `must be a decimal number such as "12.34", not ` + quoteShort(text)}
}

// IsZero reports whether the number is 0, however many decimals it was written with.
func (d Decimal) IsZero() bool { return d.digits == 0 }

// Scale returns the number of decimals the number was written with.
func (d Decimal) Scale() int { return int(d.scale) }

// String returns the text that ParseDecimal was given.
func (d Decimal) String() string { return string(appendDecimal(nil, d.digits, int(d.scale))) }

// In returns the number as an amount of c. It is refused, with a *ParseError, when it was written with more
// decimals than c has (ErrTooManyDecimals), even zeros, and when it overflows (ErrOverflow).
func (d Decimal) In(c Currency) (Amount, error) {
	if c.IsZero() {
		return Amount{}, ErrUnknownCurrency
	}
	missing := c.Exponent() - int(d.scale)
	if missing < 0 {
		return Amount{}, &ParseError{ErrTooManyDecimals, tooManyDecimals(int(d.scale), c)}
	}
	hi, lo := bits.Mul64(uint64(d.digits), pow10[missing]) // digits is never negative
	if hi != 0 || lo > math.MaxInt64 {
		return Amount{}, &ParseError{
			ErrOverflow, "is too large: at most " + FormatMinor(math.MaxInt64, c) + " " + c.Code(),
		}
	}
	return Amount{minor: int64(lo), currency: c}, nil
}

var pow10 = [MaxExponent + 1]uint64{1, 10, 100, 1000, 10000}

func tooManyDecimals(scale int, c Currency) string {
	unit := "decimals"
	if scale == 1 {
		unit = "decimal"
	}
	if c.Exponent() == 0 {
		return fmt.Sprintf("has %d %s; %s has none", scale, unit, c.Code())
	}
	return fmt.Sprintf("has %d %s; %s has %d", scale, unit, c.Code(), c.Exponent())
}
