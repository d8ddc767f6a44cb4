package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// finding is one violation of a schema.
type finding struct {
	// path locates it, outermost name first; empty for the whole value.
	path []string
	code string
	// sentence continues one that begins with the name of the field: "must not be empty".
	sentence string
}

// findings turns the error of openapi3.Schema.VisitJSON into sentences for people. Any other error becomes one finding about the
// whole value.
func findings(err error) []finding {
	if err == nil {
		return nil
	}
	//nolint:errorlint // it wraps the findings of each alternative
	if schemaErr, ok := err.(*openapi3.SchemaError); ok && schemaErr.SchemaField == "oneOf" {
		return alternatives(schemaErr.JSONPointer(), schemaErr)
	}
	if multi, ok := errors.AsType[openapi3.MultiError](err); ok {
		return findingsOf(multi)
	}
	var schemaErr *openapi3.SchemaError
	if !errors.As(err, &schemaErr) {
		return []finding{{code: "invalid", sentence: "is not valid"}}
	}
	path := schemaErr.JSONPointer()
	if schemaErr.SchemaField == "properties" { // one error per unknown field, without its name
		return unknownFields(path, schemaErr)
	}
	code, sentence := describe(schemaErr)
	return []finding{{path: path, code: code, sentence: sentence}}
}

func findingsOf(multi openapi3.MultiError) []finding {
	var all []finding
	unknown := make(map[string]bool) // objects whose unknown fields have been reported
	for _, e := range multi {
		var schemaErr *openapi3.SchemaError
		if errors.As(e, &schemaErr) && schemaErr.SchemaField == "properties" {
			object := pointerTo(schemaErr.JSONPointer())
			if unknown[object] {
				continue
			}
			unknown[object] = true
		}
		all = append(all, findings(e)...)
	}
	return all
}

// alternatives reports a value that matches none of the alternatives of oneOf: with the findings of the alternative that has its
// type, or, if there is none, with the allowed types.
func alternatives(path []string, err *openapi3.SchemaError) []finding {
	var types []string
	for _, ref := range err.Schema.OneOf {
		found := findings(ref.Value.VisitJSON(err.Value, openapi3.MultiErrors()))
		if !slices.ContainsFunc(found, func(f finding) bool { return len(f.path) == 0 && f.code == "wrong-type" }) {
			for i := range found {
				found[i].path = slices.Concat(path, found[i].path)
			}
			return found
		}
		types = append(types, ref.Value.Type.Slice()...)
	}
	return []finding{{path: path, code: "wrong-type", sentence: "must be " + typeNames(types) + ", not " + typeOf(err.Value)}}
}

func unknownFields(path []string, err *openapi3.SchemaError) []finding {
	members, _ := err.Value.(map[string]any)
	var all []finding
	for name := range members {
		if _, known := err.Schema.Properties[name]; !known {
			all = append(all, finding{append(slices.Clone(path), name), "unknown-field", "is not a known field"})
		}
	}
	slices.SortFunc(all, func(a, b finding) int { return slices.Compare(a.path, b.path) })
	return all
}

// describe says in words what a keyword of the schema requires. For a pattern, the schema may say it itself in x-message.
func describe(err *openapi3.SchemaError) (code, sentence string) {
	s := err.Schema
	switch err.SchemaField {
	case "required":
		return "required", "is required"
	case "type", "nullable":
		return "wrong-type", "must be " + typeNames(s.Type.Slice()) + ", not " + typeOf(err.Value)
	case "minLength":
		if s.MinLength == 1 {
			return "too-short", "must not be empty"
		}
		return "too-short", "must have at least " + strconv.FormatUint(s.MinLength, 10) + " characters"
	case "maxLength":
		return "too-long", "must have at most " + strconv.FormatUint(*s.MaxLength, 10) + " characters"
	case "pattern":
		if message, ok := s.Extensions["x-message"].(string); ok {
			return "malformed", message
		}
		return "malformed", "does not have the form " + s.Pattern
	case "enum":
		var b strings.Builder
		for i, v := range s.Enum {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprint(&b, v)
		}
		return "unknown-value", "must be one of " + b.String()
	case "maxItems":
		return "too-many", "must have at most " + strconv.FormatUint(*s.MaxItems, 10) + " items"
	case "maxProperties":
		return "too-many", "must have at most " + strconv.FormatUint(*s.MaxProps, 10) + " keys"
	case "minimum":
		return "too-small", "must be at least " + strconv.FormatFloat(*s.Min, 'f', -1, 64)
	case "maximum":
		return "too-large", "must be at most " + strconv.FormatFloat(*s.Max, 'f', -1, 64)
	}
	return "invalid", "is not valid"
}

func typeNames(types []string) string {
	names := make([]string, len(types))
	for i, t := range types {
		switch t {
		case openapi3.TypeInteger:
			names[i] = "a whole number"
		case openapi3.TypeArray, openapi3.TypeObject:
			names[i] = "an " + t
		case openapi3.TypeNull:
			names[i] = t
		default:
			names[i] = "a " + t
		}
	}
	return strings.Join(names, " or ")
}

func typeOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number, float64: // of a fraction
		return "a number"
	case []any:
		return "an array"
	}
	return "an object"
}

// pointerTo returns a path as an RFC 6901 pointer.
func pointerTo(path []string) string {
	var b strings.Builder
	for _, token := range path {
		b.WriteByte('/')
		_, _ = pointerEscapes.WriteString(&b, token)
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")
