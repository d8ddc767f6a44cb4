// Package genapi is generated from api/openapi.yaml: types, parameters and routes.
package genapi

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config ../../../api/oapi-codegen.yaml ../../../api/openapi.yaml
