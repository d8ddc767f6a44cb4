// Package money holds exact amounts of money: whole minor units (cents) of an ISO 4217 currency, added and
// subtracted with overflow checks, read from and written as decimal text. Nothing in it goes through a float.
package money

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moov-io/iso4217"
)

// ErrUnknownCurrency means that a code is not three upper-case letters naming an active ISO 4217 currency that has
// a minor unit.
var ErrUnknownCurrency = errors.New("unknown currency")

// Currency is an ISO 4217 currency. It is one byte, comparable, and valid as a map key. The zero value is no
// currency. Its bits are not stable between builds: store Code.
type Currency struct{ id uint8 }

// ParseCurrency returns the currency with the given code, for new accounts: exactly three upper-case ASCII
// letters, in use today, with a minor unit defined by ISO 4217. Gold, the test code, and the like (XAU, XTS, XXX)
// have none and are refused. The error is ErrUnknownCurrency.
func ParseCurrency(code string) (Currency, error) {
	c, ok := LookupCurrency(code)
	if !ok || !c.Active() {
		return Currency{}, fmt.Errorf("%w %s", ErrUnknownCurrency, quoteShort(code))
	}
	return c, nil
}

// LookupCurrency is ParseCurrency for codes read back from storage: it also knows currencies that ISO 4217 has
// withdrawn, so that an account opened in one stays readable. It does not allocate.
func LookupCurrency(code string) (Currency, bool) {
	i, ok := codeIndex(code)
	if !ok || currencies.byCode[i] == 0 {
		return Currency{}, false
	}
	return Currency{id: currencies.byCode[i]}, true
}

// Code returns the three letters, "EUR"; of the zero Currency the empty string.
func (c Currency) Code() string { return currencies.info[c.id].code }

// String is Code.
func (c Currency) String() string { return c.Code() }

// Exponent returns the number of decimals of the minor unit: EUR 2, JPY 0, KWD 3, CLF 4.
func (c Currency) Exponent() int { return int(currencies.info[c.id].exponent) }

// Active reports whether the currency is in ISO 4217's list of current currencies, and not withdrawn.
func (c Currency) Active() bool { return currencies.info[c.id].active }

// IsZero reports whether c is no currency at all.
func (c Currency) IsZero() bool { return c.id == 0 }

// MaxExponent is the most decimals any currency has (CLF and UYW).
const MaxExponent = 4

type currencyInfo struct {
	code     string
	exponent uint8
	active   bool
}

// table is built once. info[0] is the zero Currency; byCode maps a code, read as a number in base 26, to its id.
type table struct {
	info   []currencyInfo
	byCode [26 * 26 * 26]uint8
}

var currencies = newTable()

// The library's table is that of ISO 4217 as of 2023. These are the amendments since, from the list the
// maintenance agency (SIX) publishes.
var (
	// added are the new codes, all with two decimals.
	added = []string{"SLE", "VED", "XAD", "XCG", "ZWG"}
	// withdrawn are the removed codes. LookupCurrency still knows them.
	withdrawn = []string{"ANG", "BGN", "CUC", "HRK", "SLL", "ZWL"}
	// noMinorUnit are the codes for which ISO 4217 says "N.A.": metals, bond units, accounting units, test codes.
	// The library says 0 for these.
	noMinorUnit = []string{
		"XAG", "XAU", "XBA", "XBB", "XBC", "XBD", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX",
	}
)

func newTable() *table {
	t := &table{info: make([]currencyInfo, 1, 192)}
	for n := range 1000 { // every ISO 4217 currency has a numeric code of three digits
		cc, ok := iso4217.Lookup(fmt.Sprintf("%03d", n))
		if ok && !slices.Contains(noMinorUnit, cc.Code) {
			t.add(currencyInfo{cc.Code, cc.DecimalPlaces, !slices.Contains(withdrawn, cc.Code)})
		}
	}
	for _, code := range added {
		t.add(currencyInfo{code, 2, true})
	}
	return t
}

func (t *table) add(info currencyInfo) {
	i, ok := codeIndex(info.code)
	if !ok || t.byCode[i] != 0 || len(t.info) > 255 || info.exponent > MaxExponent {
		panic("money: the currency table is inconsistent at " + info.code)
	}
	t.byCode[i] = uint8(len(t.info))
	t.info = append(t.info, info)
}

func codeIndex(code string) (int, bool) {
	if len(code) != 3 {
		return 0, false
	}
	a, b, c := code[0]-'A', code[1]-'A', code[2]-'A'
	if a > 25 || b > 25 || c > 25 {
		return 0, false
	}
	return (int(a)*26+int(b))*26 + int(c), true
}

// quoteShort quotes text from outside for an error message, cut to a length that cannot flood it.
func quoteShort(s string) string {
	const most = 20
	if len(s) > most {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:most], ""))
	}
	return fmt.Sprintf("%q", s)
}
