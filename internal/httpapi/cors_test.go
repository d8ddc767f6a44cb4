package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestCORS sends requests from pages of an allowed and of a foreign origin, with and without authentication.
func TestCORS(t *testing.T) {
	t.Parallel()
	const ours, foreign = "https://app.example", "https://evil.test"
	deposit := `{"account_id":"` + accountID.String() + `","amount":"1"}`
	for name, s := range map[string]*service{
		"none": {cors: []string{ours, "http://localhost:3000"}},
		"keys": {cors: []string{ours, "http://localhost:3000"}, auth: &callers{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, s)
			host := strings.TrimPrefix(a.url, "http://")
			preflight := func(origin string) *answer {
				b := *a
				b.client = plainClient // the document has no preflights
				return b.sendTo(host, http.MethodOptions, "/deposits", "", "Origin", origin, "Access-Control-Request-Method", "POST",
					"Access-Control-Request-Headers", "authorization,content-type,idempotency-key", "Sec-Fetch-Site", "cross-site")
			}
			got := preflight(ours)
			if h := got.header; got.status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != ours ||
				h.Get("Access-Control-Allow-Methods") != "POST" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "idempotency-key") ||
				!strings.Contains(h.Get("Vary"), "Origin") {
				t.Errorf("preflight: %d %v", got.status, got.header)
			}
			if got := preflight(foreign); got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("preflight of another origin: %v", got.header)
			}
			credential := "Bearer accounts:write"
			got = a.sendTo(host, "POST", "/deposits", deposit, "Origin", ours, "Sec-Fetch-Site", "cross-site", "Authorization", credential,
				"Content-Type", "application/json")
			exposed := got.header.Get("Access-Control-Expose-Headers")
			if got.status != http.StatusCreated || got.header.Get("Access-Control-Allow-Origin") != ours {
				t.Errorf("a deposit: %d %s %v", got.status, got.text, got.header)
			}
			for _, header := range []string{
				"Passbook-Position", "Etag", "Location", "Idempotency-Replayed", "Link", "Retry-After", "Ratelimit", "Ratelimit-Policy",
			} {
				if !strings.Contains(strings.ToLower(exposed), strings.ToLower(header)) {
					t.Errorf("%s is not exposed: %s", header, exposed)
				}
			}
			// A page can read a refusal.
			if s.auth != nil {
				got := a.sendTo(host, "GET", "/totals", "", "Origin", "http://localhost:3000")
				if got.status != http.StatusUnauthorized || got.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" {
					t.Errorf("without a credential: %d %v", got.status, got.header)
				}
				return
			}
			got = a.sendTo(host, "POST", "/deposits", deposit, "Origin", foreign, "Sec-Fetch-Site", "cross-site", "Content-Type", "application/json")
			if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("a deposit of another origin: %d %v", got.status, got.header)
			}
		})
	}
	// Without the setting there are no CORS headers.
	a := serve(t, &service{})
	got := a.send("GET", "/totals", "", "Origin", ours)
	if got.status != http.StatusOK || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
}
