// Package api holds the OpenAPI document that the server's types and routes are generated from.
package api

import (
	_ "embed"
	"regexp"
)

//go:embed openapi.yaml
var document []byte

// Document returns the OpenAPI 3.1 document, as YAML. The caller must not change it.
func Document() []byte { return document }

var (
	eventType    = regexp.MustCompile(`(type: \{ type: string, enum: \[)([A-Z]\w+)(\] \})`)
	eventMapping = regexp.MustCompile(`(?m)^( +)([A-Z]\w+)(: "#/components/schemas/([A-Z]\w+)Event")$`)
	eventFilter  = regexp.MustCompile(`(?m)^    EventType:\n(?:      .*\n)+`)
	eventName    = regexp.MustCompile(`(?m)^( +- )([A-Z]\w+)$`)
)

// DocumentFor returns the document of a server that puts a prefix, such as "com.example.passbook.", before the type of
// its events. Where a type is a parameter, it has the prefix or not.
func DocumentFor(eventTypePrefix string) []byte {
	if eventTypePrefix == "" {
		return document
	}
	named := eventType.ReplaceAll(document, []byte("${1}"+eventTypePrefix+"${2}${3}"))
	named = eventMapping.ReplaceAll(named, []byte("${1}"+eventTypePrefix+"${2}${3}"))
	return eventFilter.ReplaceAllFunc(named, func(schema []byte) []byte {
		return eventName.ReplaceAll(schema, []byte("${0}\n${1}"+eventTypePrefix+"${2}"))
	})
}
