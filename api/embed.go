// Package api holds the OpenAPI document that the server's types and routes are generated from.
package api

import (
	_ "embed"
)

//go:embed openapi.yaml
var document []byte

// Document returns the OpenAPI 3.1 document, as YAML. The caller must not change it.
func Document() []byte { return document }
