package httpapi

import (
	"encoding/json"
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"

	"passbook/api"
	"passbook/internal/httpapi/request"
)

// document is api/openapi.yaml in the forms that a server needs. It is never changed.
type document struct {
	text    []byte
	spec    *request.Spec
	schemas map[string]any // components/schemas
}

// documents maps a prefix of event types to a func() (*document, error).
var documents sync.Map

// loadDocument returns the document for a prefix of event types. It parses each document once per process: parsing takes a tenth
// of a second, almost one with the race detector, and tests make hundreds of servers.
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
	// The library takes twice as long to read YAML.
	text, err := json.Marshal(parsed)
	if err != nil {
		return nil, fmt.Errorf("httpapi: openapi.yaml: %w", err)
	}
	if d.spec, err = request.Load(text); err != nil {
		return nil, err
	}
	return d, nil
}
