package query

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/money"
)

func TestParseCursorRefuses(t *testing.T) {
	t.Parallel()
	encode := func(key []byte) string { // after the list it is for
		return base64.RawURLEncoding.EncodeToString(append([]byte("12345678"), key...))
	}
	id := "00000000-0000-4000-8000-00000000000a"
	for name, text := range map[string]string{
		"not base64":            "!",
		"empty":                 encode(nil),
		"no order":              encode([]byte("x12")),
		"no position":           encode([]byte("p")),
		"a signed position":     encode([]byte("p+12")),
		"a padded position":     encode([]byte("p012")),
		"a position too large":  encode([]byte("p9223372036854775808")),
		"text after it":         encode([]byte("p12|x")),
		"no id":                 encode([]byte("o|owner")),
		"no owner":              encode([]byte("o" + id)),
		"an id in upper case":   encode([]byte("o00000000-0000-4000-8000-00000000000A|owner")),
		"an id in braces":       encode([]byte("o{" + id + "}|owner")),
		"an id as a URN":        encode([]byte("ourn:uuid:" + id + "|owner")),
		"an owner with NUL":     encode([]byte("o" + id + "|a\x00b")),
		"an owner not in UTF-8": encode([]byte("o" + id + "|\xff")),
		"a line break":          encode([]byte("p1")) + "\n",
		"padding":               encode([]byte("p1")) + "==",
		"stray bits":            "MTIzNDU2NzhwMR",
		"no list":               base64.RawURLEncoding.EncodeToString([]byte("p1")),
	} {
		if c, err := parseCursor(text); !errors.Is(err, ErrBadCursor) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, c := range []cursor{
		{position: 1}, {position: -5}, {byOwner: true, id: uuid.New(), owner: "a|b"}, {byOwner: true, owner: ""},
	} {
		f.Add(c.String())
	}
	f.Add("")
	f.Add("b3VybjpA")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err != nil {
			if !errors.Is(err, ErrBadCursor) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if c.String() != text || !storable(c.owner) {
			t.Fatalf("%q is parsed as %+v", text, c)
		}
	})
}

func FuzzCursorRoundTrip(f *testing.F) {
	f.Add("owner", []byte("0123456789abcdef"))
	f.Add("|", []byte{})
	f.Fuzz(func(t *testing.T, owner string, raw []byte) {
		var id uuid.UUID
		copy(id[:], raw)
		if !storable(owner) {
			return
		}
		want := cursor{byOwner: true, owner: owner, id: id}
		if got, err := parseCursor(want.String()); err != nil || got != want {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
	})
}

func TestDecimal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ minor, currency, want string }{
		{"0", "EUR", "0.00"},
		{"5", "EUR", "0.05"},
		{"1234", "EUR", "12.34"},
		{"123456789012345678901234567890", "EUR", "1234567890123456789012345678.90"},
		{"0", "JPY", "0"},
		{"1234", "JPY", "1234"},
		{"1", "KWD", "0.001"},
		{"-1", "EUR", ""},
		{"1.5", "EUR", ""},
		{"", "EUR", ""},
		{"NaN", "EUR", ""},
	} {
		c, ok := money.LookupCurrency(tt.currency)
		if !ok {
			t.Fatal(tt.currency)
		}
		got, err := decimal(tt.minor, c)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%q %s: %q, %v, want %q", tt.minor, tt.currency, got, err, tt.want)
		}
	}
}

// FuzzStatementCursor checks that a cursor is valid only for its account and order, and that no other text is valid.
func FuzzStatementCursor(f *testing.F) {
	id := uuid.MustParse("00000000-0000-4000-8000-00000000000a")
	f.Add(statementCursor(id, true, 7), id[:], true)
	f.Add(statementCursor(id, false, 1<<62), id[:], true)
	f.Add("", []byte{}, false)
	f.Fuzz(func(t *testing.T, text string, raw []byte, oldestFirst bool) {
		var id uuid.UUID
		copy(id[:], raw)
		position, err := parseStatementCursor(text, id, oldestFirst)
		switch {
		case err != nil && !errors.Is(err, ErrBadCursor):
			t.Fatalf("%q: %v", text, err)
		case err == nil && (position < 1 || statementCursor(id, oldestFirst, position) != text):
			t.Fatalf("%q is parsed as %d", text, position)
		case err == nil:
			if _, err := parseStatementCursor(text, id, !oldestFirst); err == nil {
				t.Fatalf("%q is valid in both orders", text)
			}
		}
	})
}
