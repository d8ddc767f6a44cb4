package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"passbook/internal/account/eventjson"
	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
)

// dataSchema is the JSON Schema of the data of one event type, in the form in which it is sent.
type dataSchema struct {
	version int
	text    []byte
	tag     string
}

// newDataSchemas returns a self-contained schema for each event type, made from the API's document.
func newDataSchemas(doc *document, naming feed.Naming) (map[string]dataSchema, error) {
	all := make(map[string]dataSchema)
	for _, eventType := range eventjson.EventTypes() {
		data := dataOf(doc.schemas[eventType+"Event"])
		if data == nil {
			return nil, fmt.Errorf("httpapi: openapi.yaml has no schema for the data of %s", eventType)
		}
		version := eventjson.SchemaVersion(eventType)
		whole := inlined(data, doc.schemas).(map[string]any)
		whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		whole["$id"] = naming.DataSchema(eventType, version)
		whole["title"] = eventType
		text, err := json.Marshal(whole)
		if err != nil {
			return nil, fmt.Errorf("httpapi: schema of %s: %w", eventType, err)
		}
		all[eventType] = dataSchema{version: version, text: text, tag: contentTag(text)}
	}
	return all, nil
}

// dataOf returns the schema of an event's member data, or nil.
func dataOf(event any) any {
	whole, _ := event.(map[string]any)
	parts, _ := whole["allOf"].([]any)
	for _, part := range parts {
		object, _ := part.(map[string]any)
		properties, _ := object["properties"].(map[string]any)
		if data := properties["data"]; data != nil {
			return data
		}
	}
	return nil
}

// inlined returns a schema with every reference replaced by its target.
func inlined(schema any, schemas map[string]any) any {
	switch s := schema.(type) {
	case map[string]any:
		whole := make(map[string]any, len(s))
		if ref, ok := s["$ref"].(string); ok {
			target, _ := inlined(schemas[strings.TrimPrefix(ref, "#/components/schemas/")], schemas).(map[string]any)
			maps.Copy(whole, target)
		}
		for name, value := range s {
			if name != "$ref" && name != "x-message" {
				whole[name] = inlined(value, schemas)
			}
		}
		return whole
	case []any:
		whole := make([]any, len(s))
		for i := range s {
			whole[i] = inlined(s[i], schemas)
		}
		return whole
	}
	return schema
}

// EventSchema serves GET /schemas/{event_type}/{schema_version}.
func (s *server) EventSchema(w http.ResponseWriter, r *http.Request, eventType genapi.EventType, version int32) {
	name := strings.TrimPrefix(string(eventType), s.feed.Naming().TypePrefix)
	schema := s.schemas[name]
	if schema.version != int(version) {
		s.fail(w, r, newProblem(kindRouteNotFound,
			fmt.Sprintf("Events of the type %s have version %d of their schema.", name, schema.version)))
		return
	}
	if !s.notModified(w, r, schema.tag) {
		write(w, http.StatusOK, "application/schema+json", schema.text)
	}
}
