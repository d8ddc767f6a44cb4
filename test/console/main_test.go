//go:build browser

// Package console drives the web console in a real browser, against the real binary on a real PostgreSQL. It is run
// by make test-console, which builds the server (CONSOLE_SERVER) and finds Chromium (CHROMIUM) and axe-core (AXE_CORE).
// Screenshots are written to the directory that CONSOLE_SCREENSHOTS names, and those of docs/console.md to that of CONSOLE_GALLERY.
package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// waitLimit bounds every wait for a condition. The machine may be slow.
const waitLimit = time.Minute

func TestMain(m *testing.M) { pgtest.Main(withBrowser{m}) }

// fixture is a running server with its own database and gate. Browsers and tests reach it through the gate.
type fixture struct {
	t    *testing.T
	pool *pgxpool.Pool
	gate *gate
	base string
	// database is its URL, and key what requests of the test authenticate with, if it is not empty.
	database, key string
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// consoleAddress is in the line of the log that says that the server listens.
var consoleAddress = regexp.MustCompile(`"console":"(http://[^"]+)/console"`)

// serve starts the real binary with these settings, after calling prepare with the empty database. The system chooses the port.
func serve(t *testing.T, prepare func(*pgxpool.Pool), settings ...string) *fixture {
	t.Helper()
	path := os.Getenv("CONSOLE_SERVER")
	if path == "" {
		t.Skip("CONSOLE_SERVER does not name the server's binary: run make test-console")
	}
	url := pgtest.URL(t)
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if prepare != nil {
		prepare(pool)
	}
	out, ended := new(output), make(chan error, 1)
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_FORMAT=json")
	cmd.Env = append(cmd.Env, settings...)
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
			t.Logf("the server said:\n%s", out.b.String())
		}
	})
	s := &fixture{t: t, pool: pool, database: url}
	s.eventually("the server listens", func() bool { return s.listens(out, consoleAddress) })
	s.eventually("the server is ready", func() bool {
		status, _, err := s.send(http.MethodGet, "/readyz", "")
		return err == nil && status == http.StatusOK
	})
	s.gate = newGate(t, s.base)
	return s
}

// listens looks for the address of the server in what it has written.
func (s *fixture) listens(out *output, address *regexp.Regexp) bool {
	out.mu.Lock()
	defer out.mu.Unlock()
	if found := address.FindSubmatch(out.b.Bytes()); found != nil {
		s.base = string(found[1])
	}
	return s.base != ""
}

// eventually waits until something holds.
func (s *fixture) eventually(what string, holds func() bool) {
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

func (s *fixture) send(method, path, body string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		request.Header.Set("Authorization", "Bearer "+s.key)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	return response.StatusCode, raw, err
}

// call is send for a request that must succeed.
func (s *fixture) call(method, path, body string) map[string]any {
	s.t.Helper()
	status, raw, err := s.send(method, path, body)
	var answer map[string]any
	if err != nil || status >= 300 || json.Unmarshal(raw, &answer) != nil {
		s.t.Fatalf("%s %s %s: %d %s %v", method, path, body, status, raw, err)
	}
	return answer
}

// open opens an account and returns its id.
func (s *fixture) open(owner, currency string) string {
	s.t.Helper()
	return s.call("POST", "/accounts", fmt.Sprintf(`{"owner":%q,"currency":%q}`, owner, currency))["account_id"].(string)
}

// deposit makes a deposit and returns its position.
func (s *fixture) deposit(account, amount string) int64 {
	s.t.Helper()
	return int64(s.call("POST", "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":%q}`, account, amount))["position"].(float64))
}

// balance returns the balance once the read model has applied the whole log.
func (s *fixture) balance(account string, position int64) string {
	s.t.Helper()
	return s.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%d", account, position), "")["balance"].(string)
}

func (s *fixture) exec(sql string, arguments ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, arguments...); err != nil {
		s.t.Fatal(err)
	}
}
