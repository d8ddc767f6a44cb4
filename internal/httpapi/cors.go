package httpapi

import (
	"net/http"

	"github.com/rs/cors"
)

// newCORS lets pages of the origins read responses, and send requests that need a preflight (Fetch standard, section 3.3). No
// cookies are involved: a page sends its credential in Authorization.
func newCORS(origins []string) *cors.Cors {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: methods,
		AllowedHeaders: []string{
			"Accept", "Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "Prefer",
			"Traceparent", "X-Causation-Id", "X-Correlation-Id", "X-Request-Id",
		},
		ExposedHeaders: []string{
			"ETag", "Idempotency-Replayed", "Link", "Location", "Passbook-Position", "RateLimit", "RateLimit-Policy", "Retry-After",
			"WWW-Authenticate", "X-Request-Id",
		},
		MaxAge:               600,
		OptionsSuccessStatus: http.StatusNoContent,
	})
}
