package httpapi

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
)

// Bounds of the body of a command.
const (
	// maxBody is in bytes.
	maxBody = 64 << 10
	// maxDepth is how deep arrays and objects may lie in each other; what the API takes is flat.
	maxDepth = 16
	// maxErrors is how many bad fields are named in one answer.
	maxErrors = 32
)

// readBody returns the whole body, or a problem: of another media type than JSON, too large, or broken off. A request
// without a body gives nil.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	if err := checkMediaType(r.Header); err != nil {
		return nil, err
	}
	var (
		raw []byte
		err error
	)
	if r.ContentLength > 0 {
		raw = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, raw)
	} else {
		raw, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	if err == nil {
		return raw, nil
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, newProblem(kindUnreadableBody, "The body did not arrive in time.")
	}
	return nil, newProblem(kindUnreadableBody, "The body broke off before its end.")
}

func tooLarge() *problem {
	return newProblem(kindBodyTooLarge, fmt.Sprintf("The body may have %d bytes at most.", maxBody))
}

func checkMediaType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return newProblem(kindMediaType, "The body must not have a Content-Encoding.")
	}
	given := h["Content-Type"]
	if len(given) == 1 && given[0] == "application/json" {
		return nil
	}
	if len(given) == 1 {
		mediaType, parameters, err := mime.ParseMediaType(given[0])
		charset, has := parameters["charset"]
		if err == nil && mediaType == "application/json" && (!has || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return newProblem(kindMediaType, "Content-Type must be application/json, in UTF-8.")
}

// decoder is a jsontext.Decoder with the buffer it reads from, kept for the next request.
type decoder struct {
	text *bytes.Buffer
	json *jsontext.Decoder
}

var decoders = sync.Pool{New: func() any {
	text := new(bytes.Buffer)
	return &decoder{text: text, json: jsontext.NewDecoder(text)}
}}

// decodeJSON reads one JSON text into the types that openapi3.Schema.VisitJSON takes. Numbers keep their literal text.
// The error is a problem that points to where the text is wrong.
func decodeJSON(raw []byte) (any, error) {
	d, _ := decoders.Get().(*decoder)
	defer func() { // raw is not ours to keep
		*d.text = bytes.Buffer{}
		d.json.Reset(d.text)
		decoders.Put(d)
	}()
	*d.text = *bytes.NewBuffer(raw)
	d.json.Reset(d.text)
	value, err := decodeValue(d.json, 0)
	if err == nil {
		if _, more := d.json.ReadToken(); !errors.Is(more, io.EOF) {
			err = errTrailing
		}
	}
	if err != nil {
		return nil, syntaxProblem(err, d.json.StackPointer())
	}
	return value, nil
}

var (
	errTooDeep  = errors.New("is nested too deeply")
	errTrailing = errors.New("is followed by more text")
)

func decodeValue(d *jsontext.Decoder, depth int) (any, error) {
	switch d.PeekKind() {
	case jsontext.KindBeginObject:
		return decodeObject(d, depth+1)
	case jsontext.KindBeginArray:
		return decodeArray(d, depth+1)
	case jsontext.KindNumber:
		literal, err := d.ReadValue()
		return stdjson.Number(literal), err
	}
	token, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case jsontext.KindString:
		return token.String(), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return token.Bool(), nil
	}
	return nil, nil
}

func decodeObject(d *jsontext.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	members := make(map[string]any)
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		key := name.String()
		if members[key], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return members, err
}

func decodeArray(d *jsontext.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errTooDeep
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	elements := []any{}
	for d.PeekKind() != jsontext.KindEndArray {
		element, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		elements = append(elements, element)
	}
	_, err := d.ReadToken()
	return elements, err
}

// syntaxProblem says where a JSON text is wrong; last is what was read before the error.
func syntaxProblem(err error, last jsontext.Pointer) *problem {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return newProblem(kindInvalidJSON, "The body "+err.Error()+".")
	}
	code, what := "malformed", fmt.Sprintf("is not valid JSON at byte %d", syntax.ByteOffset)
	pointer := syntax.JSONPointer
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		code, what = "repeated", "is given more than once"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		what = "ends too early"
	case pointer == "" && pointer.Contains(last) && last != "": // as after the 0 of 01
		pointer, what = last, fmt.Sprintf("is followed by what is not valid JSON, at byte %d", syntax.ByteOffset)
	}
	if pointer == "" || len(pointer) > 4*maxShown {
		return newProblem(kindInvalidJSON, "The body "+what+".")
	}
	name := pointer.LastToken()
	return newProblem(kindInvalidJSON, name+" "+what+".",
		genapi.FieldError{Pointer: string(pointer), Code: code, Detail: name + " " + what})
}

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
		return newProblem(kindInvalidBody, f.errs[0].Detail+".", f.errs...)
	}
	return newProblem(kindInvalidBody, fmt.Sprintf("%d fields are not valid; errors says why.", len(f.errs)), f.errs...)
}
