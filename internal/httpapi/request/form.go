package request

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
)

// form is the body of a command. It collects the errors of the schema and those of reading the fields, to report all together.
type form struct {
	members map[string]any
	errs    []genapi.FieldError
	bad     map[string]bool // members with an error
}

// readForm decodes a body and validates it against the schema.
func readForm(raw []byte, schema *openapi3.Schema) (*form, error) {
	value, err := decodeJSON(raw)
	if err != nil {
		return nil, err
	}
	return newForm(value, schema), nil
}

func newForm(value any, schema *openapi3.Schema) *form {
	f := new(form)
	f.members, _ = value.(map[string]any)
	for _, found := range findings(schema.VisitJSON(value, openapi3.MultiErrors(), withTimes)) {
		f.add(found)
	}
	return f
}

func (f *form) add(found finding) {
	if len(found.path) == 0 {
		f.errs = append(f.errs, genapi.FieldError{Code: found.code, Detail: "the body " + found.sentence})
		return
	}
	name := found.path[0]
	if f.bad[name] && name != metadataName { // in metadata, every bad key is named
		return
	}
	if f.bad == nil {
		f.bad = make(map[string]bool)
	}
	f.bad[name] = true
	if len(f.errs) == maxErrors {
		return
	}
	last := found.path[len(found.path)-1]
	e := genapi.FieldError{Pointer: pointerTo(found.path), Code: found.code, Detail: shown(last) + " " + found.sentence}
	if len(e.Pointer) > 4*maxShown {
		e.Pointer = ""
		if name == metadataName {
			e.Pointer = "/" + metadataName
		}
	}
	f.errs = append(f.errs, e)
}

func (f *form) refuse(name, code, sentence string) {
	f.add(finding{path: []string{name}, code: code, sentence: sentence})
}

// text returns a member that is a string, or "".
func (f *form) text(name string) string {
	text, _ := f.members[name].(string)
	return text
}

// has reports whether the member is given and has no error.
func (f *form) has(name string) bool {
	_, given := f.members[name]
	return given && !f.bad[name]
}

// id returns a member that is a UUID, or the nil UUID if it is absent.
func (f *form) id(name string) uuid.UUID {
	if !f.has(name) {
		return uuid.UUID{}
	}
	id, ok := parseUUID(f.text(name))
	if !ok {
		f.refuse(name, "malformed", uuidSentence)
	}
	return id
}

// currency returns the member currency, or none if it is absent.
func (f *form) currency(parse func(code string) (money.Currency, bool)) money.Currency {
	const name = "currency"
	if !f.has(name) {
		return money.Currency{}
	}
	c, ok := parse(f.text(name))
	if !ok {
		f.refuse(name, "currency-unknown", "must be an active ISO 4217 currency, such as EUR")
	}
	return c
}

// decimal returns a decimal from the literal text of a member; ok is false if it is absent or bad.
func (f *form) decimal(name string) (d money.Decimal, ok bool) {
	var text string
	switch v := f.members[name].(type) {
	case string:
		text = v
	case stdjson.Number:
		text = string(v)
	default:
		return d, false // absent, or the schema has refused its type
	}
	d, err := money.ParseDecimal(text)
	if err == nil {
		return d, !f.bad[name]
	}
	sentence := "is not a decimal"
	if parse, ok := errors.AsType[*money.ParseError](err); ok {
		sentence = parse.Detail
	}
	f.replace(name, decimalCode(err), sentence)
	return d, false
}

// optionalDecimal returns a decimal member, or nil if it is absent or bad.
func (f *form) optionalDecimal(name string) *money.Decimal {
	d, ok := f.decimal(name)
	if !ok {
		return nil
	}
	return &d
}

// integer returns a member that is a 64-bit integer, or 0 if it is absent or bad.
func (f *form) integer(name string) int64 {
	if !f.has(name) {
		return 0
	}
	literal, _ := f.members[name].(stdjson.Number)
	n, err := strconv.ParseInt(string(literal), 10, 64)
	if err != nil {
		f.refuse(name, "malformed", "must be a whole number, written in digits only")
	}
	return n
}

// flag returns a boolean member, or false if it is absent.
func (f *form) flag(name string) bool {
	set, _ := f.members[name].(bool)
	return set
}

// time returns a member that is a time, in UTC and truncated to microseconds like times in the log, or the zero time if it is
// absent or bad.
func (f *form) time(name string) time.Time {
	text, isText := f.members[name].(string)
	if !isText {
		return time.Time{} // absent, or the schema has refused its type
	}
	t, ok := ParseTime(text)
	if !ok {
		f.replace(name, "malformed", "must be an RFC 3339 time, such as 2026-01-02T15:04:05Z")
		return time.Time{}
	}
	const lastYear = 9999 // in RFC 3339
	if t = t.UTC().Truncate(time.Microsecond); t.Year() > lastYear || t.Year() < 1 || t.IsZero() {
		f.refuse(name, "malformed", "must be after 0001-01-01T00:00:00Z and in the year 9999 at the latest, in UTC")
	}
	return t
}

const metadataName = "metadata"

// labels returns the member metadata.
func (f *form) labels() account.Metadata {
	members, _ := f.members[metadataName].(map[string]any)
	if len(members) == 0 {
		return account.Metadata{}
	}
	labels := make(map[string]string, len(members))
	for _, key := range slices.Sorted(maps.Keys(members)) {
		labels[key], _ = members[key].(string)
		f.checkKey(key)
	}
	return account.NewMetadata(labels)
}

// patch returns the member metadata of a merge patch: nil if it is absent; all is true if it is null.
func (f *form) patch() (patch map[string]*string, all bool) {
	value, given := f.members[metadataName]
	members, isObject := value.(map[string]any)
	if !isObject {
		return nil, given && value == nil
	}
	patch = make(map[string]*string, len(members))
	for _, key := range slices.Sorted(maps.Keys(members)) {
		f.checkKey(key)
		if text, isText := members[key].(string); isText {
			patch[key] = &text
		} else {
			patch[key] = nil
		}
	}
	return patch, false
}

// checkKey refuses a key of metadata that the domain's rules would refuse without naming it.
func (f *form) checkKey(key string) {
	path := []string{metadataName, key}
	switch n := utf8.RuneCountInString(key); {
	case n == 0:
		f.add(finding{path[:1], "too-short", "must not have an empty key"})
	case n > account.MaxMetadataKeyLen:
		f.add(finding{path, "too-long", fmt.Sprintf("must have at most %d characters", account.MaxMetadataKeyLen)})
	case strings.ContainsRune(key, 0):
		f.add(finding{path, "malformed", "must not contain the NUL character"})
	}
}

// replace reports the parser's error instead of the schema's, which knows only the form.
func (f *form) replace(name, code, sentence string) {
	pointer := pointerTo([]string{name})
	for i := range f.errs {
		if f.errs[i].Pointer == pointer {
			f.errs[i].Code, f.errs[i].Detail = code, name+" "+sentence
			return
		}
	}
	f.refuse(name, code, sentence)
}

func decimalCode(err error) string {
	switch {
	case errors.Is(err, money.ErrNegative):
		return "negative"
	case errors.Is(err, money.ErrExponent):
		return "exponent"
	case errors.Is(err, money.ErrTooManyDecimals):
		return "amount-too-precise"
	case errors.Is(err, money.ErrOverflow):
		return "amount-overflow"
	}
	return "malformed"
}

// err returns an *Error that names all bad fields, or nil.
func (f *form) err() error {
	switch len(f.errs) {
	case 0:
		return nil
	case 1:
		return newError(InvalidBody, f.errs[0].Detail+".", f.errs...)
	}
	return newError(InvalidBody, fmt.Sprintf("%d fields are not valid; errors says why.", len(f.errs)), f.errs...)
}
