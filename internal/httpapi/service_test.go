package httpapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/command"
	"passbook/internal/httpapi"
	"passbook/internal/projector"
	"passbook/internal/query"
)

const replayPath = "/projections/balances/replays/0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"

func TestProjections(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/projections", 200},
		{"GET", "/projections/balances", 200},
		{"POST", "/projections/balances/pause", 200},
		{"POST", "/projections/balances/resume", 200},
		{"POST", "/projections/balances/replay", 202},
		{"GET", replayPath, 200},
		{"DELETE", replayPath, 200},
	} {
		got := a.send(tt.method, tt.path, "")
		if got.status != tt.status || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, got.status, got.text)
		}
		if (got.header.Get("Location") == replayPath) != (tt.status == 202) {
			t.Errorf("%s %s: %v", tt.method, tt.path, got.header)
		}
	}
}

func TestErrorsOfProjections(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{projector.ErrUnknownProjection, 404, "projection-not-found"},
		{projector.ErrUnknownReplay, 404, "replay-not-found"},
		{projector.ErrReplayFinished, 409, "replay-finished"},
		{&projector.ReplayRunningError{Replay: sampleReplay("balances")}, 409, "replay-running"},
		{errUnavailable, 503, "unavailable"},
		{context.Canceled, 503, "unavailable"},
		{errors.New("cause"), 500, "internal-error"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{
				status: func(string) (projector.Status, error) { return projector.Status{}, tt.err },
				replay: func(string) (projector.Replay, error) { return projector.Replay{}, tt.err },
			})
			for _, request := range []string{
				"GET /projections", "GET /projections/x", "POST /projections/x/pause", "POST /projections/x/resume",
				"POST /projections/x/replay", "GET " + replayPath, "DELETE " + replayPath,
			} {
				method, path, _ := strings.Cut(request, " ")
				got := a.send(method, path, "")
				if code, _ := got.problem(t); got.status != tt.status || code != tt.code {
					t.Errorf("%s: %d %s", request, got.status, got.text)
				}
				if tt.code == "replay-running" &&
					(got.header.Get("Location") != replayPath || got.json(t)["replay_id"] != replayID.String()) {
					t.Errorf("%s does not name the running replay: %s %v", request, got.text, got.header)
				}
			}
		})
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", 404, ""},
		{"GET", "/accounts/", 404, ""},
		{"GET", "//accounts", 404, ""},
		{"GET", "/docs/nothing.js", 404, ""},
		{"POST", "/ACCOUNTS", 404, ""},
		{"PUT", "/accounts", 405, "GET, HEAD, POST"},
		{"GET", "/deposits", 405, "POST"},
		{"OPTIONS", "/deposits", 405, "POST"},
		{"BREW", "/deposits", 405, "POST"},
		{"BREW", "/nothing", 404, ""},
		{"PROPFIND", "/docs/nothing.js", 404, ""},
		{"POST", "/docs", 405, "GET, HEAD"},
		{"POST", replayPath, 405, "GET, HEAD, DELETE"},
	} {
		got := a.send(tt.method, tt.path, "")
		if got.status != tt.status || got.header.Get("Allow") != tt.allow {
			t.Errorf("%s %s: %d %s %v", tt.method, tt.path, got.status, got.text, got.header)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	got := a.send("HEAD", balancePath, "")
	if got.status != 200 || got.text != "" || got.header.Get("ETag") != `"5"` || got.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%d %s %v", got.status, got.text, got.header)
	}
	if got := a.send("HEAD", balancePath+"?x=1", ""); got.status != 400 {
		t.Errorf("%d", got.status)
	}
}

func TestPanics(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{
		do: func(command.Request) (command.Result, error) { panic("secret") },
		account: func(uuid.UUID, query.Wait) (query.Account, int64, error) {
			panic(errors.New("another secret"))
		},
	})
	for _, got := range []*answer{a.send("POST", "/deposits", deposit("1")), a.send("GET", balancePath, "")} {
		if code, _ := got.problem(t); got.status != 500 || code != "internal-error" || strings.Contains(got.text, "secret") {
			t.Errorf("%d %s", got.status, got.text)
		}
	}
	if log := a.log.String(); !strings.Contains(log, "another secret") || !strings.Contains(log, "goroutine") {
		t.Errorf("the log does not say what happened: %s", log)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := &service{checks: []httpapi.Check{{Name: "database", OK: true}}}
	a := serve(t, s)
	if got := a.send("GET", "/livez", ""); got.text != `{"status":"ok","version":"test"}` {
		t.Errorf("%s", got.text)
	}
	if got := a.send("GET", "/readyz", ""); got.status != 200 || got.text != `{"checks":[{"name":"database","ok":true}],"status":"ok"}` {
		t.Errorf("%d %s", got.status, got.text)
	}
	s.checks = append(s.checks, httpapi.Check{Name: "projections", Detail: "balances is halted"})
	if got := a.send("GET", "/readyz", ""); got.status != 503 || got.json(t)["status"] != "unavailable" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// Only authorized callers may see the position of the log and the rights of the database role.
func TestPrivateReadinessDetails(t *testing.T) {
	t.Parallel()
	checks := []httpapi.Check{{Name: "database", OK: true, Detail: "reachable"}, {Name: "projection balances", OK: true, Detail: "at 7", Private: true}}
	with := serve(t, &service{auth: &callers{}, checks: checks})
	without := serve(t, &service{checks: checks})
	for _, tt := range []struct {
		a                *harness
		credential, host string
		told             bool
	}{
		{with, "", "localhost", false},
		{with, "Bearer accounts:read", "localhost", false},
		{with, "Bearer nonsense", "localhost", false},
		{with, "Bearer projections:read", "localhost", true},
		{with, "Bearer projections:admin", "bank.test", true},
		{without, "", "localhost", true},
		{without, "", "evil.test", false},
	} {
		got := tt.a.sendTo(tt.host, "GET", "/readyz", "", "Authorization", tt.credential)
		if got.status != 200 || strings.Contains(got.text, "at 7") != tt.told || !strings.Contains(got.text, "reachable") {
			t.Errorf("%q to %s: %d %s", tt.credential, tt.host, got.status, got.text)
		}
	}
}

// Until the schema is in place, requests that need the database are refused, and others are served.
func TestStarting(t *testing.T) {
	t.Parallel()
	s := new(service)
	s.starting.Store(true)
	a := serve(t, s)
	for request, want := range map[string]int{
		"POST /deposits": 503, "GET " + balancePath: 503, "GET /projections": 503, "DELETE " + replayPath: 503,
		"GET /livez": 200, "GET /readyz": 200, "GET /metrics": 200, "GET /docs": 200, "GET /openapi.yaml": 200, "GET /console": 200,
		"GET /nothing": 404, "PUT /deposits": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := a.send(method, path, ""); got.status != want || (got.header.Get("Retry-After") != "") != (want == 503) {
			t.Errorf("%s: %d %s", request, got.status, got.text)
		}
	}
	s.starting.Store(false)
	if got := a.send("GET", balancePath, ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestMetricsAndLog(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	a.send("GET", balancePath, "", "X-Request-Id", "req-7", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	a.send("GET", "/accounts/x", "")
	a.send("GET", "/nothing/"+accountID.String(), "")
	a.send("BREW", "/deposits", "")
	a.send("GET", "/console/main.js", "")
	a.send("GET", "/docs/swagger-ui.css", "")
	got := a.send("GET", "/metrics", "").text
	for _, line := range []string{
		`passbook_http_requests_total{method="GET",route="/accounts/{account_id}/balance",status="2xx"} 1`,
		`passbook_http_requests_total{method="GET",route="/accounts/{account_id}",status="4xx"} 1`,
		`passbook_http_requests_total{method="GET",route="none",status="4xx"} 1`,
		`passbook_http_requests_total{method="other",route="none",status="4xx"} 1`,
		`passbook_http_request_duration_seconds_count{method="GET",route="/accounts/{account_id}/balance"} 1`,
		`passbook_http_requests_in_flight 1`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no %s in\n%s", line, got)
		}
	}
	line := regexp.MustCompile(`.*"request_id":"req-7".*`).FindString(a.log.String())
	for _, part := range []string{
		`"method":"GET"`, `"route":"/accounts/{account_id}/balance"`, `"status":200`, `"bytes":`, `"duration_ms":`,
		`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`,
	} {
		if !strings.Contains(line, part) {
			t.Errorf("no %s in %s", part, line)
		}
	}
	if text := a.log.String(); strings.Contains(text, "/metrics") || strings.Contains(text, "/console/") || strings.Contains(text, "/docs/") {
		t.Errorf("probes and files fill the log: %s", a.log)
	}
}

func TestDocs(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	page := a.send("GET", "/docs", "")
	if page.status != 200 || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self' 'sha256-") {
		t.Errorf("%d %v", page.status, page.header)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page.text, -1)
	if len(assets) < 4 {
		t.Fatalf("the page has no files: %s", page.text)
	}
	for _, asset := range assets {
		if got := a.send("GET", asset[1], ""); got.status != 200 || got.text == "" || !strings.HasPrefix(asset[1], "/docs/") {
			t.Errorf("%s: %d", asset[1], got.status)
		}
	}
	document := a.send("GET", "/openapi.yaml", "")
	if !strings.HasPrefix(document.text, "openapi: 3.1.") {
		t.Errorf("%.100s", document.text)
	}
	if got := a.send("GET", "/openapi.yaml", "", "If-None-Match", document.header.Get("ETag")); got.status != 304 {
		t.Errorf("%d", got.status)
	}
	if got := a.send("GET", "/docs/", ""); got.header.Get("Location") != "/docs" {
		t.Errorf("%d %v", got.status, got.header)
	}
}

// TestIndex expects people to get to the console, and programs to the document.
func TestIndex(t *testing.T) {
	t.Parallel()
	const links = `{"links":{"console":"/console","docs":"/docs","openapi":"/openapi.yaml"},"service":"passbook","version":"test"}`
	a := serve(t, &service{auth: &callers{}})
	for accept, want := range map[string]int{
		"": 200, "*/*": 200, "application/json": 200, "text/csv": 200, "not a type": 200, "text/html;q=0.5, application/json": 200,
		"text/html": 303,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": 303,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			var headers []string
			if accept != "" {
				headers = []string{"Accept", accept}
			}
			got := a.send(method, "/", "", headers...)
			where, body := "", links
			if want == http.StatusSeeOther {
				where, body = "/console", ""
			}
			if method == "HEAD" {
				body = ""
			}
			if got.status != want || got.header.Get("Location") != where || strings.TrimSpace(got.text) != body || got.header.Get("Vary") != "Accept" {
				t.Errorf("%s, Accept %q: %d %v %s", method, accept, got.status, got.header, got.text)
			}
		}
	}
	if got := a.send("POST", "/", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.status)
	}
	if got := a.send("GET", "/?x=1", ""); got.status != http.StatusBadRequest {
		t.Errorf("an unknown parameter: %d %s", got.status, got.text)
	}
}

func TestNewRequiresCompleteConfig(t *testing.T) {
	t.Parallel()
	s, registry := new(service), prometheus.NewRegistry()
	whole := httpapi.Config{
		Commands: s, Queries: s, Statements: s, Holds: s, Movements: s, Projections: s, Control: s, Replays: s, Feed: serveFeed(t, s), Generations: s, Failures: s, Statistics: s, Webhooks: s, WebhookControl: s, WebhookRules: s, Proofs: s, AccessRecords: &s.audit, Logger: slog.New(slog.DiscardHandler),
		Ready: func(context.Context) []httpapi.Check { return nil }, Registry: registry,
		Started: func() bool { return true }, Unavailable: func(error) bool { return false },
	}
	if _, err := httpapi.New(httpapi.Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
	without := whole
	without.Logger = nil
	if _, err := httpapi.New(without); err == nil {
		t.Error("a configuration without a logger is accepted")
	}
	if _, err := httpapi.New(whole); err != nil {
		t.Error(err)
	}
	if _, err := httpapi.New(whole); err == nil {
		t.Error("metrics were registered twice")
	}
}

// A command that its client has cancelled is no server error, and must not be logged as one.
func TestCancelledCommand(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{do: func(command.Request) (command.Result, error) { return command.Result{}, context.Canceled }})
	if got := a.send("POST", "/deposits", deposit("1")); got.status != http.StatusServiceUnavailable || strings.Contains(a.log.String(), "ERROR") {
		t.Errorf("%d %s, %s", got.status, got.text, a.log)
	}
}
