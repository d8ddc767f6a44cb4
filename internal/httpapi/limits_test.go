package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// TestRateLimit sends more than a caller may: at a thousandth of a request a second nothing comes back while it runs.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{auth: &callers{}, rateLimit: .001})
	first := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read")
	if first.status != 200 || first.header.Get("RateLimit-Limit") != "1" || first.header.Get("RateLimit-Remaining") != "0" ||
		first.header.Get("RateLimit-Policy") != "1;w=1000" {
		t.Errorf("%d %v", first.status, first.header)
	}
	second := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read")
	code, _ := second.problem(t)
	after, err := strconv.Atoi(second.header.Get("Retry-After"))
	if second.status != http.StatusTooManyRequests || code != "rate-limited" || err != nil || after < 1 || after > 1000 ||
		second.header.Get("RateLimit-Reset") == "" {
		t.Errorf("%d %s %v", second.status, second.text, second.header)
	}
	if other := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read+accounts:write"); other.status != 200 {
		t.Errorf("another caller: %d", other.status)
	}
	// Bad credentials count against the address, and do not keep good ones from it out.
	for i, want := range []int{401, 429, 429} {
		if got := a.send("GET", "/totals", "", "Authorization", "Bearer guess"+strconv.Itoa(i)); got.status != want {
			t.Errorf("guess %d: %d", i, got.status)
		}
	}
	if got := a.send("GET", "/totals", "", "Authorization", "Bearer accounts:read+events:read"); got.status != 200 {
		t.Errorf("a good credential beside bad ones: %d", got.status)
	}
	for range 3 {
		if got := a.send("GET", "/livez", ""); got.status != 200 || got.header.Get("RateLimit-Limit") != "" {
			t.Errorf("an open path: %d", got.status)
		}
	}
}

// Without authentication callers are told apart by their addresses, those of IPv6 by their networks.
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
		{"@", 200}, // what is no address shares one bucket
		{"@", 429},
	} {
		r := httptest.NewRequest(http.MethodGet, "/totals", nil)
		r.RemoteAddr = try.from
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		if w.Code != try.want {
			t.Errorf("from %s: %d, want %d", try.from, w.Code, try.want)
		}
	}
}
