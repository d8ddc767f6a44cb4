package httpapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// sendTo sends a request whose Host may differ from the address it connects to.
func (a *harness) sendTo(host, method, path, body string, headers ...string) *answer {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return &answer{response.StatusCode, response.Header, string(text)}
}

// TestHost sends requests to names that a page may have pointed at the address of the service (DNS rebinding).
func TestHost(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{})
	for _, host := range []string{
		"localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:8080", "bank.example", "BANK.example:443", "[::ffff:127.0.0.1]",
	} {
		if got := a.sendTo(host, "GET", "/totals", ""); got.status != http.StatusOK {
			t.Errorf("Host %s: %d %s", host, got.status, got.text)
		}
	}
	deposit := `{"account_id":"` + accountID.String() + `","amount":"1"}`
	for _, host := range []string{
		"evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test", "evil.test:localhost", "192.0.2.1", "[2001:db8::1]:80", "bank.example.evil.test",
	} {
		for _, path := range []string{"/", "/totals", "/events", "/console", "/docs", "/metrics", "/openapi.yaml", "/none"} {
			got := a.sendTo(host, "GET", path, "")
			if code, _ := got.problem(t); got.status != http.StatusMisdirectedRequest || code != "misdirected-request" {
				t.Errorf("Host %s: GET %s: %d %s", host, path, got.status, got.text)
			}
		}
		if got := a.sendTo(host, "POST", "/deposits", deposit, "Content-Type", "application/json"); got.status != http.StatusMisdirectedRequest {
			t.Errorf("Host %s: POST: %d %s", host, got.status, got.text)
		}
		for _, path := range []string{"/livez", "/readyz"} { // probes address an instance by its IP address
			if got := a.sendTo(host, "GET", path, ""); got.status != http.StatusOK {
				t.Errorf("Host %s: GET %s: %d %s", host, path, got.status, got.text)
			}
		}
	}
}

// TestCrossOrigin sends every operation that changes something like a page of another origin.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{})
	host := strings.TrimPrefix(a.url, "http://")
	for path, item := range loadDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			path, body, _ := requestFor(path, method, op)
			if method == http.MethodGet {
				if got := a.sendTo(host, method, path, "", "Sec-Fetch-Site", "cross-site", "Origin", "http://evil.test"); got.status != http.StatusOK {
					t.Errorf("%s %s: %d %s", method, path, got.status, got.text)
				}
				continue
			}
			for name, headers := range map[string][]string{
				"a site":         {"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.test"},
				"a port":         {"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"},
				"an old browser": {"Origin", "http://evil.test"},
				"a sandbox":      {"Origin", "null"},
			} {
				got := a.sendTo(host, method, path, body, append(headers, "Content-Type", "text/plain")...)
				if code, _ := got.problem(t); got.status != http.StatusForbidden || code != "cross-origin-request" {
					t.Errorf("%s %s from %s: %d %s", method, path, name, got.status, got.text)
				}
			}
			for name, headers := range map[string][]string{
				"a page of its own": {"Sec-Fetch-Site", "same-origin", "Origin", a.url}, "a program": nil, "its own page in an old browser": {"Origin", a.url},
			} {
				if got := a.sendTo(host, method, path, body, append(headers, "Content-Type", "application/json")...); got.status >= http.StatusBadRequest {
					t.Errorf("%s %s from %s: %d %s", method, path, name, got.status, got.text)
				}
			}
		}
	}
}

// With authentication a proxy may use any name: the credential protects the service, and no browser adds it by itself.
func TestHostWithAuthentication(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{auth: &callers{}})
	if got := a.sendTo("bank.test", "GET", "/totals", "", "Authorization", "Bearer accounts:read"); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.text)
	}
}
