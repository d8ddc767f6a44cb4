package httpapi

import (
	"encoding/json"
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"

	"passbook/api"
	"passbook/internal/httpapi/request"
)

// document is the API's document in the forms that a server needs. Nothing changes it.
type document struct {
	text    []byte
	spec    *request.Spec
	schemas map[string]any // its components/schemas
}

// documents has a func() (*document, error) for each prefix of event types that was asked for.
var documents sync.Map

// loadDocument returns the document for a prefix of event types. It parses a document once in a process: that takes a tenth
// of a second, with the race detector almost one, and tests make hundreds of servers.
func loadDocument(typePrefix string) (*document, error) {
	load, _ := documents.LoadOrStore(typePrefix, sync.OnceValues(func() (*document, error) { return parseDocument(typePrefix) }))
	return load.(func() (*document, error))()
}

func parseDocument(typePrefix string) (*document, error) {
	d := &document{text: api.DocumentFor(typePrefix)}
	var parsed map[string]any
	if err := yaml.Unmarshal(d.text, &parsed); err != nil {
		return nil, fmt.Errorf("httpapi: openapi.yaml: %w", err)
	}
	components, _ := parsed["components"].(map[string]any)
	d.schemas, _ = components["schemas"].(map[string]any)
	// The library takes twice as long for YAML.
	text, err := json.Marshal(parsed)
	if err != nil {
		return nil, fmt.Errorf("httpapi: openapi.yaml: %w", err)
	}
	if d.spec, err = request.Load(text); err != nil {
		return nil, err
	}
	return d, nil
}
