// Package oidc tests authentication by tokens with an independent issuer, an OpenID provider of github.com/zitadel/oidc,
// against the real binary on a real PostgreSQL. E2E_SERVER names the binary; without it, the tests build one.
package oidc

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// waitLimit bounds every wait for a condition. The machine may be slow.
const waitLimit = time.Minute

// audience is the audience that the server requires.
const audience = "https://bank.example"

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestTokensOfARealIssuer attacks I10.
func TestTokensOfARealIssuer(t *testing.T) {
	t.Parallel()
	binary := build(t)
	for name, test := range map[string]func(t *testing.T, binary string){
		"scopes": testScopes, "roles": testRoles, "rotation": testRotation, "outage": testOutage,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, binary) })
	}
}

// teller is a client whose tokens are for the server.
func teller() client { return client{id: "teller", audience: []string{audience}, lifetime: time.Hour} }

// testScopes checks that tokens allow what their scopes say, and nothing once expired or if they are for another service.
func testScopes(t *testing.T, binary string) {
	t.Helper()
	robot := client{id: "robot", key: newRSA(t), audience: []string{"x", audience}, lifetime: time.Hour}
	late := client{id: "late", audience: []string{audience}, lifetime: -time.Minute}
	brief := client{id: "brief", audience: []string{audience}, lifetime: 5 * time.Second}
	stranger := client{id: "stranger", audience: []string{"https://shop.example"}, lifetime: time.Hour}
	i := newIssuer(t, teller(), robot, late, brief, stranger)
	i.start()
	s := serve(t, binary, i)

	soonOver, over := i.token("brief", "accounts:read"), time.Now().Add(brief.lifetime)
	if status, body := s.send("GET", "/accounts", soonOver, ""); status != http.StatusOK {
		t.Errorf("before it expires: %d %s", status, body)
	}
	for name, test := range map[string]struct {
		token       string
		read, write int // what GET and POST /accounts return
	}{
		"client credentials, to read":         {i.token("teller", "accounts:read"), http.StatusOK, http.StatusForbidden},
		"client credentials, to write":        {i.token("teller", "accounts:write"), http.StatusForbidden, http.StatusCreated},
		"client credentials, both and others": {i.token("teller", "email", "accounts:read", "accounts:write"), http.StatusOK, http.StatusCreated},
		"client credentials, neither":         {i.token("teller", "events:read"), http.StatusForbidden, http.StatusForbidden},
		"a client's assertion, to read":       {i.assert("robot", "accounts:read"), http.StatusOK, http.StatusForbidden},
		"a client's assertion, to write":      {i.assert("robot", "accounts:write"), http.StatusForbidden, http.StatusCreated},
		"expired":                             {i.token("late", "accounts:read"), http.StatusUnauthorized, http.StatusUnauthorized},
		"of another audience":                 {i.token("stranger", "accounts:read"), http.StatusUnauthorized, http.StatusUnauthorized},
		"none":                                {"", http.StatusUnauthorized, http.StatusUnauthorized},
	} {
		if status, body := s.send("GET", "/accounts", test.token, ""); status != test.read {
			t.Errorf("%s: reading: %d %s, want %d", name, status, body, test.read)
		}
		if status, body := s.send("POST", "/accounts", test.token, `{"owner":"Ada","currency":"EUR"}`); status != test.write {
			t.Errorf("%s: writing: %d %s, want %d", name, status, body, test.write)
		}
	}
	_, events := s.send("GET", "/events", i.token("teller", "events:read"), "")
	for _, actor := range []string{`"actor":"oidc:teller"`, `"actor":"oidc:robot"`} {
		if !strings.Contains(events, actor) {
			t.Errorf("the events have no %s: %s", actor, events)
		}
	}
	// A verified token expires although it is remembered.
	s.eventually("the token has expired", func() bool { return time.Now().After(over) })
	if status, body := s.send("GET", "/accounts", soonOver, ""); status != http.StatusUnauthorized {
		t.Errorf("after it has expired: %d %s", status, body)
	}
}

// testRoles maps an issuer's roles to scopes; the token's scopes are then ignored.
func testRoles(t *testing.T, binary string) {
	t.Helper()
	of := func(id string, roles ...string) client {
		return client{id: id, audience: []string{audience}, lifetime: time.Hour, claims: map[string]any{"realm": map[string]any{"roles": roles}}}
	}
	i := newIssuer(t, of("clerk", "teller", "other"), of("auditor", "audit"), of("guest"), teller())
	i.start()
	s := serve(t, binary, i, "PASSBOOK_OIDC_SCOPE_CLAIM=realm.roles",
		"PASSBOOK_OIDC_SCOPES=teller=accounts:read,teller=accounts:write,audit=accounts:read")
	for _, test := range []struct {
		client      string
		read, write int
	}{
		{"clerk", http.StatusOK, http.StatusCreated},
		{"auditor", http.StatusOK, http.StatusForbidden},
		{"guest", http.StatusForbidden, http.StatusForbidden},
		{"teller", http.StatusForbidden, http.StatusForbidden}, // has no such claim
	} {
		token := i.token(test.client, "accounts:read", "accounts:write")
		if status, body := s.send("GET", "/accounts", token, ""); status != test.read {
			t.Errorf("%s reading: %d %s, want %d", test.client, status, body, test.read)
		}
		if status, body := s.send("POST", "/accounts", token, `{"owner":"Ada","currency":"EUR"}`); status != test.write {
			t.Errorf("%s writing: %d %s, want %d", test.client, status, body, test.write)
		}
	}
}

// testRotation makes the issuer sign with a new key: its tokens are accepted at once, and of the old key's only the
// remembered ones.
func testRotation(t *testing.T, binary string) {
	t.Helper()
	i := newIssuer(t, teller())
	i.start()
	s := serve(t, binary, i)
	unseen := i.token("teller", "accounts:read", "events:read")
	if status, body := s.send("GET", "/accounts", i.token("teller", "accounts:read"), ""); status != http.StatusOK {
		t.Fatalf("before: %d %s", status, body)
	}
	i.rotate()
	if status, body := s.send("GET", "/accounts", i.token("teller", "accounts:read"), ""); status != http.StatusOK {
		t.Errorf("of the new key: %d %s", status, body)
	}
	if status, body := s.send("GET", "/accounts", unseen, ""); status != http.StatusUnauthorized {
		t.Errorf("of the key that is withdrawn: %d %s", status, body)
	}
}

// testOutage starts the server while its issuer is unavailable: it is ready, and returns 503 when it would need the issuer.
// Once it has the issuer's keys, it verifies their tokens without the issuer.
func testOutage(t *testing.T, binary string) {
	t.Helper()
	i := newIssuer(t, teller())
	i.start()
	token, second := i.token("teller", "accounts:read"), i.token("teller", "accounts:read", "events:read")
	i.stop()
	s := serve(t, binary, i)
	unavailable := func(when, token string) {
		t.Helper()
		status, body := s.send("GET", "/accounts", token, "")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "issuer-unavailable") {
			t.Errorf("%s: %d %s, want 503", when, status, body)
		}
	}
	unavailable("before the issuer has started", token)
	i.start()
	s.eventually("the token is accepted", func() bool {
		status, _ := s.send("GET", "/accounts", token, "")
		return status == http.StatusOK
	})
	i.rotate()
	unknown := i.token("teller", "accounts:read")
	i.stop()
	if status, body := s.send("GET", "/accounts", second, ""); status != http.StatusOK {
		t.Errorf("of a key that is known, during an outage: %d %s", status, body)
	}
	unavailable("of a key that is not known, during an outage", unknown)
	i.start()
	s.eventually("the token of the new key is accepted", func() bool {
		status, _ := s.send("GET", "/accounts", unknown, "")
		return status == http.StatusOK
	})
}

// build returns the path of the real binary.
func build(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("E2E_SERVER"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "server")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", path, "./cmd/server")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return path
}

// server is the running binary with its own database.
type server struct {
	t    *testing.T
	base string
}

// freeAddr is an address for an issuer, which stops and starts again at it.
func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// listening is in the line of the log with the server's address.
var listening = regexp.MustCompile(`"msg":"listening","addr":"([^"]+)"`)

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// serve starts the binary, which trusts the issuer, and waits until it is ready.
func serve(t *testing.T, binary string, i *issuer, env ...string) *server {
	t.Helper()
	out, ended := new(output), make(chan error, 1)
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+pgtest.URL(t), "PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_FORMAT=json",
		"PASSBOOK_AUTH=oidc", "PASSBOOK_OIDC_ISSUER="+i.url(), "PASSBOOK_OIDC_AUDIENCE="+audience)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", out.b.String())
		}
	})
	s := &server{t: t}
	s.eventually("the server listens", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		found := listening.FindSubmatch(out.b.Bytes())
		if found != nil {
			s.base = "http://" + string(found[1])
		}
		return found != nil
	})
	s.eventually("the server is ready", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/readyz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return s
}

// send sends a request and returns the response's status and body.
func (s *server) send(method, path, token, body string) (status int, text string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

// eventually waits until a condition holds.
func (s *server) eventually(what string, holds func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), waitLimit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("timed out waiting until %s", what)
		}
	}
}
