package request

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

	"github.com/go-json-experiment/json/jsontext"

	"passbook/internal/httpapi/genapi"
)

// Bounds of the body of a command.
const (
	// maxBody is in bytes. The largest metadata fits, 16 keys of 40 characters with texts of 500, each character escaped as two
	// times six bytes, together with the other fields.
	maxBody = 128 << 10
	// maxDepth bounds the nesting of arrays and objects; what the API accepts is flat.
	maxDepth = 16
	// maxErrors bounds the bad fields named in one response.
	maxErrors = 32
)

// readBody returns the whole body, or nil for a request without one. Its error is an *Error: the media type is not JSON, or the
// body is too large or incomplete.
func readBody(w http.ResponseWriter, r *http.Request, isPatch bool) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	if err := checkMediaType(r.Header, isPatch); err != nil {
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
		return nil, newError(UnreadableBody, "The body did not arrive in time; nothing was done, so send it again.")
	}
	return nil, newError(UnreadableBody, "The body ended too early; nothing was done, so send it again.")
}

func tooLarge() *Error {
	return newError(BodyTooLarge, fmt.Sprintf("The body may have at most %d bytes; shorten it, or send several requests.", maxBody))
}

// mergePatch is the media type of RFC 7396.
const mergePatch = "application/merge-patch+json"

func checkMediaType(h http.Header, isPatch bool) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return newError(WrongMediaType, "The body must not have a Content-Encoding; send it uncompressed.")
	}
	given := h["Content-Type"]
	if len(given) == 1 && given[0] == "application/json" {
		return nil
	}
	if len(given) == 1 {
		mediaType, parameters, err := mime.ParseMediaType(given[0])
		charset, has := parameters["charset"]
		if err == nil && (mediaType == "application/json" || isPatch && mediaType == mergePatch) && (!has || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	if isPatch {
		return newError(WrongMediaType, "Content-Type must be "+mergePatch+" or application/json, in UTF-8.")
	}
	return newError(WrongMediaType, "Content-Type must be application/json, in UTF-8.")
}

// decoder is a jsontext.Decoder with its buffer, pooled.
type decoder struct {
	text *bytes.Buffer
	json *jsontext.Decoder
}

var decoders = sync.Pool{New: func() any {
	text := new(bytes.Buffer)
	return &decoder{text: text, json: jsontext.NewDecoder(text)}
}}

// decodeJSON reads one JSON text into the types that openapi3.Schema.VisitJSON accepts. Numbers keep their literal text. The
// error is an *Error that points to the fault.
func decodeJSON(raw []byte) (any, error) {
	d, _ := decoders.Get().(*decoder)
	defer func() { // the pool must not keep raw
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

// syntaxProblem returns the error for a malformed JSON text; last is the pointer to the value before the fault.
func syntaxProblem(err error, last jsontext.Pointer) *Error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return newError(InvalidJSON, "The body "+err.Error()+".")
	}
	code, what := "malformed", fmt.Sprintf("is not valid JSON at byte %d", syntax.ByteOffset)
	pointer := syntax.JSONPointer
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		code, what = "repeated", "is given more than once"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		what = "ends too early"
	case pointer == "" && pointer.Contains(last) && last != "": // such as after the 0 in 01
		pointer, what = last, fmt.Sprintf("is followed by text that is not valid JSON, at byte %d", syntax.ByteOffset)
	}
	if pointer == "" || len(pointer) > 4*maxShown {
		return newError(InvalidJSON, "The body "+what+".")
	}
	name := pointer.LastToken()
	return newError(InvalidJSON, name+" "+what+".",
		genapi.FieldError{Pointer: string(pointer), Code: code, Detail: name + " " + what})
}
