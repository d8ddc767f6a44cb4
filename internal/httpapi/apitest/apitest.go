// Package apitest checks every response in a test against api/openapi.yaml, so that the document and the server agree.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"passbook/api"
)

// TB is the part of testing.TB that Client needs.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
}

// Client returns a client that fails the test if a response does not conform to the specification: its operation, status, media
// type, headers or body differ from the document, or an object has an undocumented member. The client does not follow redirects,
// and closes each connection after its response, so that a test leaves none open.
func Client(t TB) *http.Client {
	t.Helper()
	doc, err := load()
	if err != nil {
		t.Errorf("apitest: %v", err)
	}
	return &http.Client{
		Transport:     &transport{t: t, doc: doc, base: &http.Transport{DisableKeepAlives: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// load reads the specification once, and closes its objects: an API may add members, but must document them.
var load = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Document())
	if err != nil {
		return nil, fmt.Errorf("load openapi.yaml: %w", err)
	}
	closed := false
	closeObject := func(ref *openapi3.SchemaRef) {
		if more := ref.Value.AdditionalProperties; ref.Value.Type.Is(openapi3.TypeObject) && more.Has == nil && more.Schema == nil {
			ref.Value.AdditionalProperties.Has = &closed
		}
	}
	for _, ref := range doc.Components.Schemas {
		if len(ref.Value.AllOf) > 0 {
			merge(ref.Value)
		}
		closeObject(ref)
		for _, property := range ref.Value.Properties {
			closeObject(property)
		}
	}
	return doc, nil
})

// merge replaces allOf by one object with all members, since each part alone would be closed to the members of the others.
func merge(whole *openapi3.Schema) {
	whole.Type, whole.Properties = &openapi3.Types{openapi3.TypeObject}, make(openapi3.Schemas)
	for _, part := range whole.AllOf {
		maps.Copy(whole.Properties, part.Value.Properties)
		whole.Required = append(whole.Required, part.Value.Required...)
	}
	whole.AllOf = nil
}

var uuidFormat = openapi3.WithStringFormatValidator("uuid",
	openapi3.NewRegexpFormatValidator("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"))

type transport struct {
	t    TB
	doc  *openapi3.T
	base http.RoundTripper
}

// RoundTrip sends the request, and reads and checks the whole response.
func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := tr.base.RoundTrip(r)
	if err != nil || tr.doc == nil {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err == nil {
		err = response.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	for _, problem := range check(tr.doc, r, response, body) {
		tr.t.Errorf("%s %s returned %d, which api/openapi.yaml does not allow: %s\n%s",
			r.Method, r.URL, response.StatusCode, problem, excerpt(body))
	}
	return response, nil
}

func excerpt(body []byte) []byte { return body[:min(len(body), 1000)] }

// Check returns what is wrong with a response. It needs only the method and the URL of the request. The error is one of the
// document.
func Check(r *http.Request, response *http.Response, body []byte) ([]string, error) {
	doc, err := load()
	if err != nil {
		return nil, err
	}
	return check(doc, r, response, body), nil
}

// check returns what is wrong with a response.
func check(doc *openapi3.T, r *http.Request, response *http.Response, body []byte) []string {
	documented, problem := find(doc, r, response.StatusCode)
	if documented == nil {
		if problem == "" {
			return nil
		}
		return []string{problem}
	}
	problems := checkHeaders(documented, response.Header)
	if r.Method == http.MethodHead {
		return problems
	}
	return append(problems, checkBody(documented, response, body)...)
}

// find returns the documented response. For a request that is no operation (404, 405, and the files of the documentation page) it
// is the Problem response, or, if it succeeds, nil.
func find(doc *openapi3.T, r *http.Request, status int) (*openapi3.Response, string) {
	item := match(doc, r.URL.EscapedPath())
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var operation *openapi3.Operation
	if item != nil {
		operation = item.GetOperation(method)
	}
	switch {
	case operation != nil:
		ref := operation.Responses.Status(status)
		if ref == nil && status >= http.StatusBadRequest {
			ref = operation.Responses.Default()
		}
		if ref == nil {
			return nil, "the status is not documented"
		}
		return ref.Value, ""
	case status == http.StatusUnauthorized: // unknown paths need a credential, too
		return doc.Components.Responses["Unauthorized"].Value, ""
	case status == http.StatusTooManyRequests:
		return doc.Components.Responses["RateLimited"].Value, ""
	case status == http.StatusNotFound && item == nil, status == http.StatusMethodNotAllowed, status == http.StatusMisdirectedRequest:
		return doc.Components.Responses["Problem"].Value, ""
	case strings.HasPrefix(r.URL.Path, "/docs/"), strings.HasPrefix(r.URL.Path, "/console/"):
		return nil, ""
	}
	return nil, "the operation is not documented"
}

// match returns the path item that a path belongs to. A template without parameters is preferred.
func match(doc *openapi3.T, path string) *openapi3.PathItem {
	if item := doc.Paths.Value(path); item != nil {
		return item
	}
	segments := strings.Split(path, "/")
	for template, item := range doc.Paths.Map() {
		same := slices.EqualFunc(strings.Split(template, "/"), segments, func(t, s string) bool {
			return t == s || strings.HasPrefix(t, "{") && (s != "" || !strings.HasSuffix(path, "/"))
		})
		if same {
			return item
		}
	}
	return nil
}

func checkHeaders(documented *openapi3.Response, h http.Header) []string {
	var problems []string
	for name, ref := range documented.Headers {
		values := h.Values(name)
		switch {
		case len(values) == 0 && ref.Value.Required:
			problems = append(problems, "the header "+name+" is missing")
		case len(values) > 1:
			problems = append(problems, "the header "+name+" is given "+strconv.Itoa(len(values))+" times")
		case len(values) == 1 && ref.Value.Schema != nil:
			if err := ref.Value.Schema.Value.VisitJSON(values[0]); err != nil {
				problems = append(problems, fmt.Sprintf("the header %s is %q: %v", name, values[0], err))
			}
		}
	}
	return problems
}

func checkBody(documented *openapi3.Response, response *http.Response, body []byte) []string {
	if len(documented.Content) == 0 {
		if len(body) > 0 {
			return []string{"it has a body"}
		}
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil {
		return []string{"Content-Type: " + err.Error()}
	}
	content, ok := documented.Content[mediaType]
	if !ok {
		return []string{"the media type " + mediaType + " is not documented"}
	}
	if mediaType == "application/x-ndjson" { // the schema describes a line
		var problems []string
		for line := range bytes.Lines(body) {
			problems = append(problems, checkJSON(content.Schema.Value, mediaType, response.StatusCode, line)...)
		}
		return problems
	}
	return checkJSON(content.Schema.Value, mediaType, response.StatusCode, body)
}

func checkJSON(schema *openapi3.Schema, mediaType string, status int, body []byte) []string {
	var value any = string(body)
	if mediaType == "application/json" || mediaType == "application/x-ndjson" || strings.HasSuffix(mediaType, "+json") {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			return []string{"the body is not JSON: " + err.Error()}
		}
		if problem := checkStatus(mediaType, value, status); problem != "" {
			return []string{problem}
		}
	}
	err := schema.VisitJSON(value, openapi3.MultiErrors(), openapi3.VisitAsResponse(), uuidFormat)
	if err != nil {
		return []string{"the body: " + err.Error()}
	}
	return nil
}

// checkStatus compares the status in a problem document with that of the response, which no schema can.
func checkStatus(mediaType string, value any, status int) string {
	if mediaType != "application/problem+json" {
		return ""
	}
	problem, _ := value.(map[string]any)
	if said, _ := problem["status"].(json.Number); string(said) != strconv.Itoa(status) {
		return fmt.Sprintf("the problem says status %s", said)
	}
	return ""
}
