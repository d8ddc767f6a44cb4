// Package request reads requests and validates them against api/openapi.yaml. It returns what a handler needs, or an *Error
// that names every bad field; statuses and responses belong to package httpapi. A command passes through these files:
//
//	operation.go  the specification, and the parameters of path and query
//	accept.go     the media type that the client prefers
//	command.go    a command from its own route or from POST /commands
//	items.go      the items of POST /commands, one at a time
//	headers.go    Idempotency-Key, If-Match, If-None-Match, Prefer, traceparent
//	movement.go   plain deposits and withdrawals, which are most of the load
//	body.go       any other body, as a JSON value
//	form.go       the fields of that value, and all that is wrong with them
//	findings.go   the schema's errors as sentences
//	webhook.go    the bodies of the routes of webhooks
//	canonical.go  a form of the body that is the same for equal requests
//	time.go       RFC 3339
package request
