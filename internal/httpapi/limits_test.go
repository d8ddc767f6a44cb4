package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"passbook/internal/httpapi"
)

// TestRateLimit sends more than a caller may: at a thousandth of a request a second, no token comes back meanwhile.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := &callers{}
	a := serve(t, &service{auth: c, rateLimit: .001, checks: []httpapi.Check{{Name: "x", OK: true, Detail: "7", Private: true}}})
	first := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read")
	if first.status != 200 || first.header.Get("RateLimit") != `"caller";r=0;t=1000` ||
		first.header.Get("RateLimit-Policy") != `"caller";q=1;w=1000` {
		t.Errorf("%d %v", first.status, first.header)
	}
	second := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read")
	code, _ := second.problem(t)
	after, err := strconv.Atoi(second.header.Get("Retry-After"))
	if second.status != http.StatusTooManyRequests || code != "rate-limited" || err != nil || after < 1 || after > 1000 ||
		second.header.Get("RateLimit") == "" {
		t.Errorf("%d %s %v", second.status, second.text, second.header)
	}
	if other := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read+accounts:write"); other.status != 200 {
		t.Errorf("another caller: %d", other.status)
	}
	// Bad credentials count against the address, but do not block good ones from it.
	for i, want := range []int{401, 429, 429} {
		if got := a.send("GET", "/totals", "", "Authorization", "Bearer guess"+strconv.Itoa(i)); got.status != want {
			t.Errorf("guess %d: %d", i, got.status)
		}
	}
	// A public path does not circumvent it.
	if got := a.send("GET", "/readyz", "", "Authorization", "Bearer guess7"); got.status != 200 || strings.Contains(got.text, "detail") {
		t.Errorf("a guess at /readyz: %d %s", got.status, got.text)
	}
	if c.guesses != 1 {
		t.Errorf("the database was asked about %d guesses", c.guesses)
	}
	if got := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read+events:read"); got.status != 200 {
		t.Errorf("a good credential beside bad ones: %d", got.status)
	}
	for range 3 {
		if got := a.send("GET", "/livez", ""); got.status != 200 || got.header.Get("RateLimit") != "" {
			t.Errorf("an open path: %d", got.status)
		}
	}
}

// Without authentication a caller is its address, or the network of an IPv6 address.
func TestRateLimitByAddress(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{rateLimit: .001})
	for _, try := range []struct {
		from string
		want int
	}{
		{"192.0.2.1:1000", 200},
		{"192.0.2.1:1001", 429},
		{"[::ffff:192.0.2.1]:1001", 429},
		{"192.0.2.2:1000", 200},
		{"[2001:db8::1]:1000", 200},
		{"[2001:db8::2]:1000", 429},
		{"[2001:db8:0:1::1]:1000", 200},
		{"@", 200}, // all that are no addresses share one bucket
		{"@", 429},
	} {
		r := httptest.NewRequest(http.MethodGet, "/totals", nil)
		r.RemoteAddr, r.Host = try.from, "localhost"
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		if w.Code != try.want {
			t.Errorf("from %s: %d, want %d", try.from, w.Code, try.want)
		}
	}
}
