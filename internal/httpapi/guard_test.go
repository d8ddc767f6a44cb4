package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"passbook/internal/auth"
	"passbook/internal/httpapi"
)

// callers replaces the store of keys: a credential is its scopes, joined by "+". All others are bad, and so are those in revoked.
type callers struct {
	mu      sync.Mutex
	revoked map[string]bool
	guesses int // that the database was queried for
	err     error
}

func (c *callers) Authenticate(_ context.Context, credential string) (*auth.Caller, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(credential, "guess") {
		c.guesses++
	}
	if c.err != nil {
		return nil, c.err
	}
	if c.revoked[credential] {
		return nil, auth.ErrBadCredential
	}
	caller := &auth.Caller{ID: "key:" + credential, Actor: "key:" + credential + " test"}
	for name := range strings.SplitSeq(credential, "+") {
		scope, ok := auth.ParseScope(name)
		if !ok {
			return nil, auth.ErrBadCredential
		}
		caller.Scopes |= scope
	}
	return caller, nil
}

// NeedsDatabase reports true only for guesses.
func (c *callers) NeedsDatabase(credential string) bool {
	return strings.HasPrefix(credential, "guess")
}

func (c *callers) revoke(credential string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = map[string]bool{credential: true}
}

// others returns, for each scope that an operation requires, all scopes but that one and those that include it.
func others(scope string) (all []string) {
	if scope == "any" {
		return nil
	}
	for lacking := range strings.SplitSeq(scope, " ") {
		all = append(all, strings.Join(slices.DeleteFunc(auth.ScopeNames(), func(name string) bool {
			return name == lacking || lacking == "projections:read" && name == "projections:admin"
		}), "+"))
	}
	return all
}

// requestFor returns a valid request for the operation.
func requestFor(path, method string, op *openapi3.Operation) (string, string, []string) {
	path = strings.NewReplacer("{account_id}", accountID.String(), "{projection_id}", "balances",
		"{replay_id}", replayID.String(), "{position}", "7", "{hold_id}", replayID.String(), "{transfer_id}", replayID.String(),
		"{webhook_id}", replayID.String(), "{subject_id}", replayID.String(), "{event_type}", "MoneyDeposited", "{schema_version}", "1").Replace(path)
	for _, p := range op.Parameters {
		if p.Value.In == openapi3.ParameterInQuery && p.Value.Required { // no operation has two, and all are positions
			path += "?" + p.Value.Name + "=1"
		}
	}
	if op.RequestBody == nil {
		return path, "", nil
	}
	bodies := map[string]string{
		"openAccount": `{"owner":"Ada","currency":"EUR"}`, "transfer": `{"from_account_id":"` + accountID.String() +
			`","to_account_id":"` + eventID.String() + `","amount":"1"}`,
		"createWebhook": `{"url":"https://example.com"}`, "changeWebhook": `{}`, "resumeWebhook": `{}`, "rotateWebhookSecret": `{}`,
		"changeAccount": `{"owner":"Ada"}`, "placeHold": `{"amount":"1"}`, "reverse": `{"position":7}`, "captureHold": `{}`,
		"runCommands": `[{"command":"deposit","account_id":"` + accountID.String() + `","amount":"1"}]`,
	}
	body, ok := bodies[op.OperationID]
	switch {
	case ok:
	case strings.Count(path, "/") > 1: // a change of status
		body = `{"reason":"because"}`
	default:
		body = `{"account_id":"` + accountID.String() + `","amount":"1"}`
	}
	return path, body, nil
}

// TestEveryOperationTakesItsScope is invariant I10: it sends requests for every operation in the document without a credential,
// with a bad one, with all scopes but the right one, and with only that one.
func TestEveryOperationTakesItsScope(t *testing.T) {
	t.Parallel()
	s := &service{auth: &callers{}}
	a := serve(t, s)
	public := make(map[string]bool)
	for path, item := range loadDocument(t).Paths.Map() {
		for method, op := range item.Operations() {
			scope, _ := op.Extensions["x-required-scope"].(string)
			checkSecurity(t, op, scope)
			path, body, _ := requestFor(path, method, op)
			name := method + " " + path
			if scope == "public" {
				public[path] = true
				for _, credential := range []string{"", "Bearer nonsense", "Bearer accounts:read"} {
					if got := a.send(method, path, body, "Authorization", credential); got.status != http.StatusOK {
						t.Errorf("%s with %q: %d %s", name, credential, got.status, got.text)
					}
				}
				continue
			}
			type try struct{ credential, code, challenge string }
			tries := []try{
				{"", "unauthenticated", `Bearer realm="passbook"`},
				{"Bearer nonsense", "invalid-credential", `error="invalid_token"`},
				{"Basic " + scope, "invalid-credential", `error="invalid_token"`},
			}
			for _, narrow := range others(scope) {
				tries = append(tries, try{"Bearer " + narrow, "insufficient-scope", `error="insufficient_scope", scope="` + scope + `"`})
			}
			for _, try := range tries {
				got := a.send(method, path, body, "Authorization", try.credential)
				want := http.StatusUnauthorized
				if try.code == "insufficient-scope" {
					want = http.StatusForbidden
				}
				code, _ := got.problem(t)
				if got.status != want || code != try.code || !strings.Contains(got.header.Get("WWW-Authenticate"), try.challenge) {
					t.Errorf("%s with %q: %d %s, %q", name, try.credential, got.status, code, got.header.Get("WWW-Authenticate"))
				}
			}
			if _, reached := s.last(); reached {
				t.Fatalf("%s reached the write side", name)
			}
			enough := strings.ReplaceAll(strings.Replace(scope, "any", "metrics:read", 1), " ", "+")
			if got := a.send(method, path, body, "Authorization", "bearer  "+enough); got.status >= http.StatusBadRequest {
				t.Errorf("%s with %s: %d %s", name, scope, got.status, got.text)
			}
			s.forget()
		}
	}
	for path := range public {
		if !httpapi.Open(path) {
			t.Errorf("%s is public, but not open", path)
		}
	}
}

// checkSecurity checks that the two statements of a scope in the document agree.
func checkSecurity(t *testing.T, op *openapi3.Operation, scope string) {
	t.Helper()
	var want openapi3.SecurityRequirements
	if scope != "public" {
		want = openapi3.SecurityRequirements{{}, {"bearer": strings.Split(scope, " ")}} // without authentication none is needed
		statuses := []int{401, 403, 429}
		if scope == "any" {
			want[1]["bearer"], statuses = []string{}, []int{401, 429}
		}
		for _, status := range statuses {
			if op.Responses.Status(status) == nil {
				t.Errorf("%s has no response %d", op.OperationID, status)
			}
		}
	}
	if op.Security == nil || !slices.EqualFunc(*op.Security, want, func(a, b openapi3.SecurityRequirement) bool {
		return maps.EqualFunc(a, b, slices.Equal)
	}) {
		t.Errorf("%s: security is %v, not %v", op.OperationID, op.Security, want)
	}
}

// Paths that the document does not have are closed, except for the static files.
func TestUnknownPathsAreClosed(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{auth: &callers{}})
	for path, want := range map[string]int{
		"/": 200, "/docs/swagger-ui.css": 200, "/docs/": 301, "/docs/none": 404, "/console": 200, "/console/main.js": 200, "/console/none": 404,
		"/none": 401, "/accounts/": 401, "/consoles": 401, "/docs/../metrics": 404, "/docs/%2e%2e/metrics": 404, "//metrics": 401,
		"/metrics/": 401, "/%6detrics": 401, "/livez/": 401,
	} {
		if got := a.send("GET", path, ""); got.status != want {
			t.Errorf("GET %s: %d %s", path, got.status, got.text)
		}
	}
	if got := a.send("PATCH", "/metrics", ""); got.status != http.StatusUnauthorized {
		t.Errorf("PATCH: %d", got.status)
	}
	if got := a.send("HEAD", "/metrics", ""); got.status != http.StatusUnauthorized {
		t.Errorf("HEAD: %d", got.status)
	}
	if got := a.send("PATCH", "/metrics", "", "Authorization", "Bearer metrics:read"); got.status != http.StatusMethodNotAllowed {
		t.Errorf("PATCH with a key: %d", got.status)
	}
	if got := a.send("GET", "/metrics", "", "Authorization", "Bearer metrics:read", "Authorization", "Bearer metrics:read"); got.status != http.StatusUnauthorized {
		t.Errorf("two credentials: %d", got.status)
	}
}

func TestCredentialsThatCannotBeChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"the database is unavailable": {errUnavailable, "unavailable"},
		"the issuer is unavailable":   {errors.Join(auth.ErrIssuerUnavailable, errUnavailable), "issuer-unavailable"},
		"starting":                    {auth.ErrNotReady, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, &service{auth: &callers{err: test.err}})
			got := a.send("GET", "/metrics", "", "Authorization", "Bearer metrics:read")
			if code, _ := got.problem(t); got.status != 503 || code != test.code || got.header.Get("Retry-After") == "" {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
}

// The caller is the actor of its events, and has its own idempotency keys.
func TestCallersOwnTheirCommands(t *testing.T) {
	t.Parallel()
	s := &service{auth: &callers{}}
	a := serve(t, s)
	body := `{"account_id":"` + accountID.String() + `","amount":"1"}`
	hashes := make(map[[16]byte]string)
	for _, credential := range []string{"accounts:write", "accounts:write+accounts:read"} {
		for path, text := range map[string]string{"/deposits": body, "/commands": `[{"command":"deposit",` + body[1:] + `]`} {
			a.send("POST", path, text, "Authorization", "Bearer "+credential, "Idempotency-Key", "k")
			r, ok := s.last()
			if !ok || r.Metadata.Actor != "key:"+credential+" test" {
				t.Errorf("%s: the actor is %q", path, r.Metadata.Actor)
			}
			if before, taken := hashes[r.Key.Hash]; taken {
				t.Errorf("%s has the key of %s", credential, before)
			}
			hashes[r.Key.Hash] = credential
		}
	}
}

// TestRevokedStreamsEnd revokes a credential with open streams.
func TestRevokedStreamsEnd(t *testing.T) {
	t.Parallel()
	const credential = "events:read+projections:read+accounts:write"
	c := &callers{}
	s := &service{auth: c}
	a := serve(t, s)
	var open []io.Reader
	for _, path := range []string{"/events", "/projections/balances/replays/" + replayID.String()} {
		open = append(open, a.stream(path, credential, http.NoBody))
	}
	// The client of a bulk request has sent one command, has its result, and sends no more.
	body, send := io.Pipe()
	t.Cleanup(func() { _ = send.Close() })
	go func() {
		_, _ = io.WriteString(send, `{"command":"deposit","account_id":"`+accountID.String()+`","amount":"1"}`+"\n")
	}()
	bulk := a.stream("/commands", credential, body)
	line := bufio.NewReader(bulk)
	if text, err := line.ReadString('\n'); err != nil || !strings.Contains(text, `"status":201`) {
		t.Fatalf("%q %v", text, err)
	}
	c.revoke(credential)
	for i, stream := range open {
		if _, err := io.Copy(io.Discard, stream); err != nil { // at its end
			t.Errorf("stream %d: %v", i, err)
		}
	}
	if _, err := io.Copy(io.Discard, line); err == nil {
		t.Error("a truncated bulk response looks complete")
	}
}

// stream opens a long request: POST if there is a body, else GET of server-sent events.
func (a *harness) stream(path, credential string, body io.Reader) io.Reader {
	a.t.Helper()
	method := http.MethodGet
	if body != http.NoBody {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+credential)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Content-Type", "application/x-ndjson")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %d", path, response.StatusCode)
	}
	return response.Body
}

func TestTooManyBulkRequests(t *testing.T) {
	t.Parallel()
	s := &service{maxStreams: 1}
	a := serve(t, s)
	body, send := io.Pipe()
	go func() {
		_, _ = io.WriteString(send, `{"command":"deposit","account_id":"`+accountID.String()+`","amount":"1"}`+"\n")
	}()
	first := a.stream("/commands", "none", body)
	got := a.send("POST", "/commands", "[]")
	if code, _ := got.problem(t); got.status != 503 || code != "too-many-streams" {
		t.Errorf("%d %s", got.status, got.text)
	}
	_ = send.Close()
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return a.send("POST", "/commands", "[]").status == http.StatusOK })
}

// eventually waits until the condition holds, at most half a minute.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it does not come about")
		}
	}
}
