package httpapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"passbook/api"
)

// scopes are those of the service; public operations need no credential, and others any.
var scopes = []string{
	"public", "any", "accounts:write", "accounts:read", "events:read", "projections:read", "projections:admin", "metrics:read", "audit:read", "subjects:erase",
}

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t)
	err := doc.Validate(t.Context(),
		openapi3.EnableExamplesValidation(), openapi3.EnableSchemaFormatValidation(), openapi3.EnableMultiError())
	if err != nil {
		t.Error(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("openapi is %s", doc.OpenAPI)
	}
}

func TestEveryOperationIsComplete(t *testing.T) {
	t.Parallel()
	doc := loadDocument(t)
	ids := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || len(op.Tags) != 1 || doc.Tags.Get(op.Tags[0]) == nil {
				t.Errorf("%s %s needs an operationId of its own, a summary, and one known tag", method, path)
			}
			ids[op.OperationID] = true
			scope, _ := op.Extensions["x-required-scope"].(string)
			for one := range strings.SplitSeq(scope, " ") {
				if !slices.Contains(scopes, one) {
					t.Errorf("%s %s: x-required-scope is %q", method, path, scope)
				}
			}
			if op.Tags[0] == "commands" && scope != "accounts:write" && op.OperationID != "eraseSubject" {
				t.Errorf("%s %s: a command needs accounts:write", method, path)
			}
			checkResponses(t, method+" "+path, op)
		}
	}
}

func checkResponses(t *testing.T, name string, op *openapi3.Operation) {
	t.Helper()
	if op.Responses.Default() == nil {
		t.Errorf("%s has no default response", name)
	}
	if op.Responses.Status(400) == nil {
		t.Errorf("%s has no response 400", name)
	}
	for status, ref := range op.Responses.Map() {
		id := ref.Value.Headers["X-Request-Id"]
		if id == nil || !id.Value.Required {
			t.Errorf("%s: response %s has no X-Request-Id", name, status)
		}
		failed := strings.HasPrefix(status, "4") || strings.HasPrefix(status, "5") || status == "default"
		if failed && op.OperationID != "readyz" && ref.Value.Content.Get("application/problem+json") == nil {
			t.Errorf("%s: response %s is no problem document", name, status)
		}
		if status == "503" && op.OperationID != "readyz" && ref.Value.Headers["Retry-After"] == nil {
			t.Errorf("%s: response %s has no Retry-After", name, status)
		}
	}
}

// An object that is not closed would ignore unknown fields silently.
func TestBodiesAreClosed(t *testing.T) {
	t.Parallel()
	for path, item := range loadDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil {
				continue
			}
			schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
			if schema.Items != nil { // as in POST /commands
				schema = schema.Items.Value
			}
			if closed := schema.AdditionalProperties.Has; closed == nil || *closed {
				t.Errorf("%s %s takes unknown fields", method, path)
			}
		}
	}
}
