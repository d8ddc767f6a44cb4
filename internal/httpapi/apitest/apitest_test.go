package apitest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"passbook/internal/httpapi/apitest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// witness records the errors that Client reports.
type witness struct{ said []string }

func (*witness) Helper() {}

func (w *witness) Errorf(format string, args ...any) {
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

const (
	receipt = `{"account_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","event_id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f",` +
		`"position":1,"version":1,"type":"MoneyDeposited","recorded_at":"2026-01-02T15:04:05.000000Z"}`
	event = `[{"specversion":"1.0","id":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","source":"/passbook","type":"MoneyDeposited",` +
		`"subject":"0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f","time":"2026-01-02T15:04:05.000000Z","position":"1","version":"1",` +
		`"schemaversion":1,"dataschema":"urn:passbook:schema:MoneyDeposited/1","datacontenttype":"application/json","data":{"amount":"12.34","currency":"EUR"}}]`
	problem = `{"type":"urn:passbook:problem:x","title":"x","status":404,"code":"x","request_id":"r"}`
)

// server responds with a conforming response, which a test may change.
type server struct {
	method, path, mediaType, body string
	status                        int
	header                        map[string]string
}

func (a *server) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Request-Id", "r")
	w.Header().Set("Content-Type", a.mediaType)
	for name, value := range a.header {
		w.Header()[name] = nil
		if value != "" {
			w.Header()[name] = []string{value}
		}
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// event makes the response a page with one event, in which one part is replaced.
func (a *server) event(old, replacement string) {
	a.method, a.path, a.status, a.mediaType = "GET", "/events", 200, "application/cloudevents-batch+json"
	a.header = map[string]string{"Passbook-Position": "1"}
	a.body = strings.Replace(event, old, replacement, 1)
}

func TestClient(t *testing.T) {
	t.Parallel()
	const etag = `"1"`
	good := server{"POST", "/deposits", "application/json", receipt, 201, map[string]string{"Etag": etag}}
	for _, tt := range []struct {
		name   string
		change func(*server)
		want   string // part of the complaint; empty for none
	}{
		{"good", func(*server) {}, ""},
		{"status", func(a *server) { a.status = 202 }, "status is not documented"},
		{"undocumented operation", func(a *server) { a.path = "/nothing" }, "operation is not documented"},
		{"media type", func(a *server) { a.mediaType = "text/plain" }, "media type"},
		{"no header", func(a *server) { a.header = nil }, "the header ETag is missing"},
		{"no request id", func(a *server) { a.header = map[string]string{"Etag": etag, "X-Request-Id": ""} }, "X-Request-Id"},
		{"bad header", func(a *server) { a.header = map[string]string{"Etag": "1"} }, "the header ETag is"},
		{"no JSON", func(a *server) { a.body = "x" }, "not JSON"},
		{"missing member", func(a *server) { a.body = strings.Replace(receipt, `"position":1,`, "", 1) }, "position"},
		{"unknown member", func(a *server) { a.body = strings.Replace(receipt, `{`, `{"x":1,`, 1) }, `"x"`},
		{"bad id", func(a *server) { a.body = strings.Replace(receipt, `0190`, `x190`, 1) }, "account_id"},
		{"bad time", func(a *server) { a.body = strings.Replace(receipt, `.000000Z`, `Z`, 1) }, "recorded_at"},
		{"problem", func(a *server) { a.status, a.mediaType, a.body = 404, "application/problem+json", problem }, ""},
		{"problem of another status", func(a *server) { a.status, a.mediaType, a.body = 409, "application/problem+json", problem }, "says status 404"},
		{"JSON instead of a problem", func(a *server) { a.status, a.body = 404, problem }, "media type"},
		{"event", func(a *server) { a.event("", "") }, ""},
		{"event of another type", func(a *server) { a.event("MoneyDeposited", "AccountCreated") }, "owner"},
		{"event of no type", func(a *server) { a.event("MoneyDeposited", "Nothing") }, "Nothing"},
		{"event with a number for an amount", func(a *server) { a.event(`"12.34"`, "1234") }, "value must be a string"},
		{"event with an unknown attribute", func(a *server) { a.event(`{"spec`, `{"x":1,"spec`) }, `"x"`},
		{"event with unknown data", func(a *server) { a.event(`{"amount`, `{"x":1,"amount`) }, `"x"`},
		{"no route", func(a *server) {
			a.path, a.status, a.mediaType, a.body = "/x", 404, "application/problem+json", problem
		}, ""},
		{"no route in text", func(a *server) { a.path, a.status, a.mediaType, a.body = "/x", 404, "text/plain", "x" }, "media type"},
		{"docs asset", func(a *server) { a.method, a.path, a.status = "GET", "/docs/x.js", 200 }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := good
			tt.change(&a)
			running := httptest.NewServer(&a)
			defer running.Close()
			w := new(witness)
			r, err := http.NewRequestWithContext(t.Context(), a.method, running.URL+a.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := apitest.Client(w).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(response.Body); err != nil || string(text) != a.body {
				t.Errorf("%q, %v", text, err)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			said := strings.Join(w.said, "\n")
			if (tt.want == "") != (said == "") || !strings.Contains(said, tt.want) {
				t.Errorf("said %q, want %q", said, tt.want)
			}
		})
	}
}
