package request

import (
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/elnormous/contenttype"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"passbook/internal/auth"
	"passbook/internal/httpapi/genapi"
)

// Spec is what requests are validated against, made from api/openapi.yaml. It does not match paths: the router has done that.
type Spec struct {
	operations map[operationKey]*Operation

	openAccount, moneyMovement, transfer, statusChange, changeAccount, placeHold, captureHold, releaseHold, reverse *openapi3.Schema
	createWebhook, changeWebhook, resumeWebhook, rotateSecret                                                       *openapi3.Schema

	kinds map[string]*Kind // by their names in POST /commands, which are those in package account
}

type operationKey struct{ method, pattern string }

// Operation is what the specification says about one method on one path.
type Operation struct {
	path  []parameter
	query map[string]parameter
	// Public says that the operation needs no credential; otherwise it needs a valid one that has all of Scope, which may be empty.
	Public bool
	Scope  auth.Scopes
	// offers are the media types of a success, the default first. With text/event-stream among them the response may last as long
	// as the client likes; with Bulk the request may.
	offers []contenttype.MediaType
	Bulk   bool
}

// load reads the required scope, and whether request or response may last.
func (o *Operation) load(op *openapi3.Operation) error {
	name, _ := op.Extensions["x-required-scope"].(string)
	o.Public = name == "public"
	for one := range strings.SplitSeq(name, " ") {
		scope, ok := auth.ParseScope(one)
		if !ok && !o.Public && name != "any" {
			return fmt.Errorf("httpapi: openapi.yaml: %s has an unknown x-required-scope %q", op.OperationID, name)
		}
		o.Scope |= scope
	}
	if success := op.Responses.Status(http.StatusOK); success != nil {
		offers, err := offersOf(success.Value.Content)
		if err != nil {
			return fmt.Errorf("httpapi: openapi.yaml: %s: %w", op.OperationID, err)
		}
		o.offers = offers
	}
	o.Bulk = op.RequestBody != nil && op.RequestBody.Value.Content["application/x-ndjson"] != nil
	return nil
}

// Operation returns the operation of a method on a route's pattern, or nil.
func (s *Spec) Operation(method, pattern string) *Operation {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return s.operations[operationKey{method, pattern}]
}

// Patterns returns the patterns of all routes, some more than once.
func (s *Spec) Patterns() []string {
	patterns := make([]string, 0, len(s.operations))
	for key := range s.operations {
		patterns = append(patterns, key.pattern)
	}
	return patterns
}

// Kind returns the kind of a command by its name in package account, or nil.
func (s *Spec) Kind(name string) *Kind { return s.kinds[name] }

// Negotiates reports whether the operation has more than one media type for a success.
func (o *Operation) Negotiates() bool { return len(o.offers) > 1 }

type parameter struct {
	name   string
	schema *openapi3.Schema
}

// Load reads the specification from api/openapi.yaml, as YAML or JSON.
func Load(document []byte) (*Spec, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("httpapi: openapi.yaml: %w", err)
	}
	s := &Spec{operations: make(map[operationKey]*Operation)}
	for pattern, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			o := &Operation{query: make(map[string]parameter)}
			for _, ref := range slices.Concat(item.Parameters, op.Parameters) {
				switch p := (parameter{ref.Value.Name, ref.Value.Schema.Value}); ref.Value.In {
				case openapi3.ParameterInPath:
					o.path = append(o.path, p)
				case openapi3.ParameterInQuery:
					o.query[p.name] = p
				}
			}
			if err := o.load(op); err != nil {
				return nil, err
			}
			s.operations[operationKey{method, pattern}] = o
		}
	}
	for name, schema := range map[string]**openapi3.Schema{
		"OpenAccount": &s.openAccount, "MoneyMovement": &s.moneyMovement, "Transfer": &s.transfer,
		"StatusChange": &s.statusChange, "ChangeAccount": &s.changeAccount, "PlaceHold": &s.placeHold,
		"CaptureHold": &s.captureHold, "ReleaseHold": &s.releaseHold, "Reverse": &s.reverse,
		"CreateWebhook": &s.createWebhook, "ChangeWebhook": &s.changeWebhook, "ResumeWebhook": &s.resumeWebhook, "RotateSecret": &s.rotateSecret,
	} {
		ref := doc.Components.Schemas[name]
		if ref == nil {
			return nil, fmt.Errorf("httpapi: openapi.yaml has no schema %s", name)
		}
		*schema = ref.Value
	}
	s.kinds = newKinds(s)
	return s, nil
}

// naming returns the schema of a command as an item of POST /commands, which has as members the ids that are in the path of its
// own route.
func (s *Spec) naming(body *openapi3.Schema, ids ...string) *openapi3.Schema {
	item := *body
	item.Properties = maps.Clone(item.Properties)
	for _, id := range ids {
		item.Properties[id] = s.moneyMovement.Properties["account_id"]
	}
	item.Required = slices.Concat(ids, item.Required)
	return &item
}

// CheckParameters returns an *Error that names all parameters that the specification does not allow, or nil. It does not check
// headers: the functions that read them do.
func (o *Operation) CheckParameters(r *http.Request) error {
	errs := o.checkPath(r, nil)
	if r.URL.RawQuery != "" {
		errs = o.checkQuery(r.URL.RawQuery, errs)
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return newError(InvalidParameter, errs[0].Detail+".", errs...)
	}
	return newError(InvalidParameter, fmt.Sprintf("%d parameters are not valid; errors says why.", len(errs)), errs...)
}

// JoinHeaders joins the lines of headers that may have several: by RFC 9110 one line with commas means the same.
func JoinHeaders(h http.Header) {
	for _, name := range [...]string{"Prefer", "If-Match", "If-None-Match"} {
		if values := h[name]; len(values) > 1 {
			h[name] = []string{strings.Join(values, ", ")}
		}
	}
}

func (o *Operation) checkPath(r *http.Request, errs []genapi.FieldError) []genapi.FieldError {
	for _, p := range o.path {
		value := chi.URLParam(r, p.name)
		if p.schema.Format == "uuid" {
			if _, ok := parseUUID(value); !ok {
				errs = append(errs, parameterError(p.name, "malformed", uuidSentence))
			}
			continue
		}
		if r.URL.RawPath != "" {
			unescaped, err := url.PathUnescape(value)
			if err != nil {
				errs = append(errs, parameterError(p.name, "malformed", "is not valid percent-encoding"))
				continue
			}
			value = unescaped
		}
		errs = p.check(value, errs)
	}
	return errs
}

func (o *Operation) checkQuery(raw string, errs []genapi.FieldError) []genapi.FieldError {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return append(errs, genapi.FieldError{Code: "malformed", Detail: "the query string is not well-formed"})
	}
	for name, given := range values {
		p, known := o.query[name]
		if !known {
			p, known = o.label(name)
		}
		switch {
		case !known:
			errs = append(errs, parameterError(shown(name), "unknown", "is not a parameter of this operation"))
		case len(given) > 1:
			errs = append(errs, parameterError(name, "repeated", "is given more than once"))
		default:
			errs = p.check(given[0], errs)
		}
	}
	if len(errs) == 0 {
		errs = checkBounds(values)
	}
	slices.SortFunc(errs, func(a, b genapi.FieldError) int { return strings.Compare(a.Parameter, b.Parameter) })
	return errs
}

// checkBounds refuses pairs of bounds with nothing between them. Each of them is valid by itself.
func checkBounds(values url.Values) (errs []genapi.FieldError) {
	if len(values) < 2 {
		return nil
	}
	from, isFrom := ParseTime(values.Get("from"))
	to, isTo := ParseTime(values.Get("to"))
	if isFrom && isTo && to.Before(from) {
		errs = append(errs, parameterError("to", "before-from", "must not be before from"))
	}
	least, isMin := new(big.Rat).SetString(values.Get("min_amount"))
	most, isMax := new(big.Rat).SetString(values.Get("max_amount"))
	if isMin && isMax && most.Cmp(least) < 0 {
		errs = append(errs, parameterError("max_amount", "below-min-amount", "must not be less than min_amount"))
	}
	return errs
}

// label returns the parameter of a name like metadata[key], which is an element of a parameter of style deepObject.
func (o *Operation) label(name string) (parameter, bool) {
	base, key, ok := strings.Cut(name, "[")
	p, known := o.query[base]
	key, closed := strings.CutSuffix(key, "]")
	if !ok || !closed || !known || key == "" || strings.ContainsAny(key, "[]") || p.schema.AdditionalProperties.Schema == nil {
		return parameter{}, false
	}
	return parameter{name: shown(name), schema: p.schema.AdditionalProperties.Schema.Value}, true
}

// check reads the text of a parameter as its schema's type and validates it.
func (p parameter) check(text string, errs []genapi.FieldError) []genapi.FieldError {
	if !utf8.ValidString(text) {
		return append(errs, parameterError(p.name, "malformed", "is not UTF-8"))
	}
	var value any = text
	if p.schema.Type.Is(openapi3.TypeInteger) {
		size := 64
		if p.schema.Format == "int32" {
			size = 32
		}
		n, err := strconv.ParseInt(text, 10, size)
		if err != nil {
			return append(errs, parameterError(p.name, "wrong-type", "must be a whole number"))
		}
		value = n
	}
	if p.schema.Format == "date-time" {
		if _, ok := ParseTime(text); !ok {
			return append(errs, parameterError(p.name, "malformed", timeSentence))
		}
	}
	if p.schema.Type.Is(openapi3.TypeBoolean) {
		if text != "true" && text != "false" {
			return append(errs, parameterError(p.name, "wrong-type", "must be true or false"))
		}
		value = text == "true"
	}
	if p.schema.Format == "uuid" {
		if _, ok := parseUUID(text); !ok {
			return append(errs, parameterError(p.name, "malformed", uuidSentence))
		}
	}
	for _, f := range findings(p.schema.VisitJSON(value, openapi3.MultiErrors(), withTimes)) {
		errs = append(errs, parameterError(p.name, f.code, f.sentence))
	}
	return errs
}

func parameterError(name, code, sentence string) genapi.FieldError {
	return genapi.FieldError{Parameter: name, Code: code, Detail: name + " " + sentence}
}

// maxShown bounds how much of a name of the caller's choice is repeated in an error.
const maxShown = 64

func shown(name string) string {
	if utf8.RuneCountInString(name) <= maxShown && utf8.ValidString(name) {
		return name
	}
	return strings.ToValidUTF8(name[:min(len(name), maxShown)], "\ufffd") + "…"
}

const uuidSentence = "must be a UUID other than the nil UUID, such as 0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"

// parseUUID accepts only the usual form, 36 characters with hyphens; package uuid accepts three more, but an id has only one. The nil
// UUID is the id of nothing, and stands for one that is absent.
func parseUUID(text string) (uuid.UUID, bool) {
	const length = 36
	if len(text) != length {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil && id != uuid.Nil
}
