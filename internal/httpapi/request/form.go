package request

import (
	stdjson "encoding/json"
	"errors"
	"fmt"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
)

// form is the body of a command: what the schema finds wrong with it, and what comes to light when its fields are
// taken out, are reported together.
type form struct {
	members map[string]any
	errs    []genapi.FieldError
	bad     map[string]bool // members that have an error already
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
	for _, found := range findings(schema.VisitJSON(value, openapi3.MultiErrors())) {
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
	if f.bad[name] {
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

// has reports whether the member is there and nothing is known against it.
func (f *form) has(name string) bool {
	_, given := f.members[name]
	return given && !f.bad[name]
}

// id returns a member that is a UUID, or the zero UUID when it is absent.
func (f *form) id(name string) uuid.UUID {
	if !f.has(name) {
		return uuid.UUID{}
	}
	id, ok := parseUUID(f.text(name))
	if !ok || id == (uuid.UUID{}) {
		f.refuse(name, "malformed", uuidSentence)
	}
	return id
}

// currency returns the member of that name, or none when it is absent.
func (f *form) currency(parse func(code string) (money.Currency, bool)) money.Currency {
	const name = "currency"
	if !f.has(name) {
		return money.Currency{}
	}
	c, ok := parse(f.text(name))
	if !ok {
		f.refuse(name, "currency-unknown", "must be a currency of ISO 4217 that is in use, such as EUR")
	}
	return c
}

// decimal returns a member that is a decimal, from its literal text; ok is false when it is absent or bad.
func (f *form) decimal(name string) (d money.Decimal, ok bool) {
	var text string
	switch v := f.members[name].(type) {
	case string:
		text = v
	case stdjson.Number:
		text = string(v)
	default:
		return d, false // absent, or of a type that the schema has refused
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

// replace puts what the parser says in the place of what the schema says, which knows only the form.
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

// err returns a problem that names all bad fields, or nil.
func (f *form) err() error {
	switch len(f.errs) {
	case 0:
		return nil
	case 1:
		return newError(InvalidBody, f.errs[0].Detail+".", f.errs...)
	}
	return newError(InvalidBody, fmt.Sprintf("%d fields are not valid; errors says why.", len(f.errs)), f.errs...)
}
