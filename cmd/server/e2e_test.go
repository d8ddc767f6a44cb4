package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

	"github.com/google/uuid"

	"passbook/internal/httpapi/apitest"
)

// binary is the real server, built for all tests by the first one that needs it.
var binary struct {
	once sync.Once
	dir  string // removed by TestMain
	path string
	err  error
}

// build returns the path of the real binary: the one that E2E_SERVER names, or else a newly built one.
func build(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.path = os.Getenv("E2E_SERVER"); binary.path != "" {
			return
		}
		if binary.dir, binary.err = os.MkdirTemp("", "passbook-server-"); binary.err != nil { //nolint:usetesting // outlives the test
			return
		}
		binary.path = filepath.Join(binary.dir, "server")
		if out, err := exec.Command("go", "build", "-race", "-o", binary.path, ".").CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return binary.path
}

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	base string // set by awaitReady
	out  lockedBuffer
	done chan struct{} // closed when the process has ended, with the error in err
	err  error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// private returns the setting for a private PostgreSQL in a directory of the test's own.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	passable(t, dir)
	return "PASSBOOK_DATA_DIR=" + dir
}

// launch starts a binary on a free port, with settings such as the database's URL.
func launch(t *testing.T, path string, settings ...string) *process {
	t.Helper()
	return launchCommand(t, exec.Command(path), settings...)
}

func launchCommand(t *testing.T, cmd *exec.Cmd, settings ...string) *process {
	t.Helper()
	p := &process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), "DATABASE_URL=", "PASSBOOK_ADDR=127.0.0.1:0"), settings...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-p.done
		if t.Failed() {
			t.Logf("the server said:\n%s", requests.ReplaceAllString(p.out.String(), ""))
		}
	})
	return p
}

// The log lines with the server's address, and with each request.
var (
	listening = regexp.MustCompile(`"msg":"listening","addr":"([^"]+)"`)
	requests  = regexp.MustCompile(`(?m)^.*"msg":"request".*\n`)
)

// awaitPort sets base and returns when the server listens, before it is ready.
func (p *process) awaitPort(t *testing.T) {
	t.Helper()
	eventuallyTrue(t, time.Minute, "the server listens", func() bool {
		addr := listening.FindStringSubmatch(p.out.String())
		if addr != nil {
			p.base = "http://" + addr[1]
		}
		return addr != nil
	})
}

// awaitReady sets base and returns when the server is ready, and fails the test if it is not within the limit.
func (p *process) awaitReady(t *testing.T, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if addr := listening.FindStringSubmatch(p.out.String()); addr != nil {
			p.base = "http://" + addr[1]
			if p.ready(ctx, t) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			t.Fatalf("the server ended: %v\n%s", p.err, p.out.String())
		case <-ctx.Done():
			t.Fatalf("not ready within %v:\n%s", limit, p.out.String())
		}
	}
}

// ready asks the server once whether it is ready.
func (p *process) ready(ctx context.Context, t *testing.T) bool {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return response.StatusCode == http.StatusOK
}

// api calls a server and checks every response against api/openapi.yaml.
type api struct {
	t      *testing.T
	client *http.Client
	base   string
}

// call sends a body, if there is one, and returns the decoded response, which must have the wanted status.
func (a api) call(method, path, body string, status int) map[string]any {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Prefer", "wait=30") // the machine may be busy
	response, err := a.client.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if response.StatusCode != status {
		a.t.Fatalf("%s %s %s: %d, want %d: %s", method, path, body, response.StatusCode, status, raw)
	}
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, raw)
	}
	return answer
}

// TestQuickstartEndToEnd runs the quickstart and more, on the real binary with a private PostgreSQL: deposits are read at
// their acknowledged positions, a replay changes nothing, and a kill -9 loses nothing.
func TestQuickstartEndToEnd(t *testing.T) {
	t.Parallel()
	bin, data := build(t), private(t)
	first := launch(t, bin, data)
	first.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), first.base}

	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	var position float64
	for _, amount := range []string{`"12.34"`, `100`, `0.01`, `"7.65"`} {
		position = a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":`+amount+`}`, 201)["position"].(float64)
	}
	balance := func(a api) string {
		t.Helper()
		got := a.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%.0f", id, position), "", 200)
		return got["balance"].(string)
	}
	if got := balance(a); got != "120.00" {
		t.Fatalf("balance %s, want 120.00", got)
	}
	replay := a.call("POST", "/projections/balances/replay", "", 202)["id"].(string)
	a.awaitReplay(replay)
	if got := balance(a); got != "120.00" {
		t.Fatalf("balance after the replay %s, want 120.00", got)
	}

	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	second := launch(t, bin, data)
	second.awaitReady(t, 60*time.Second) // make bench measures whether it takes two seconds
	a = api{t, apitest.Client(t), second.base}
	if got := balance(a); got != "120.00" {
		t.Fatalf("balance after kill -9 %s, want 120.00", got)
	}
	a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":"120.01"}`, 422)
	position = a.call("POST", "/withdrawals", `{"account_id":"`+id+`","amount":"120.00"}`, 201)["position"].(float64)
	if got := balance(a); got != "0.00" {
		t.Fatalf("balance after withdrawing it all %s, want 0.00", got)
	}
	a.call("POST", "/accounts/"+id+"/close", `{"reason":"done"}`, 200)
	a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":1}`, 422)

	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if <-second.done; second.err != nil {
		t.Errorf("stopped by SIGTERM: %v, want exit code 0\n%s", second.err, second.out.String())
	}
}

// awaitReplay returns when a replay of balances is completed.
func (a api) awaitReplay(id string) {
	a.t.Helper()
	a.awaitReplayOf("balances", id)
}

// awaitReplayOf returns when a replay of a projection is completed. It may take long, but must not stall.
func (a api) awaitReplayOf(projection, id string) {
	a.t.Helper()
	var processed any
	var since time.Time
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		got := a.call("GET", "/projections/"+projection+"/replays/"+id, "", 200)
		switch got["state"] {
		case "completed":
			if got["processed"] != got["total"] {
				a.t.Fatalf("a completed replay processed %v of %v", got["processed"], got["total"])
			}
			return
		case "running":
		default:
			a.t.Fatalf("the replay is %v", got)
		}
		if got["processed"] != processed {
			processed, since = got["processed"], time.Now()
		}
		if time.Since(since) > time.Minute {
			a.t.Fatalf("the replay has stalled: %v", got)
		}
		<-tick.C
	}
}

// TestBadAmountsNameTheField sends invalid amounts to a real server.
func TestBadAmountsNameTheField(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), private(t))
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	for _, amount := range []string{
		`"12.345"`, `12.345`, `-1`, `"-1"`, `0`, `"0"`, `"0.00"`, `NaN`, `"NaN"`, `"Infinity"`, `1e3`, `"1e3"`, `""`, `" 1"`, `null`, `[]`,
		`[1]`, `{}`, `true`, `12345678901234567890123`, `"12345678901234567890123"`, `"١٢"`, `١٢`, `"1,5"`, `+1`, `.5`, `"0x10"`,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/deposits",
			strings.NewReader(`{"account_id":"`+id+`","amount":`+amount+`}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := a.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var problem struct {
			Errors []struct{ Pointer string }
		}
		named := false
		if json.Unmarshal(raw, &problem) == nil {
			for _, e := range problem.Errors {
				named = named || e.Pointer == "/amount"
			}
		}
		if response.StatusCode/100 != 4 || response.Header.Get("Content-Type") != "application/problem+json" || !named {
			t.Errorf("amount %s: %d %s: %s", amount, response.StatusCode, response.Header.Get("Content-Type"), raw)
		}
	}
	if got := a.call("GET", "/accounts/"+id+"?min_position=1", "", 200); got["balance"] != "0.00" || got["version"] != 1.0 {
		t.Errorf("after nothing but bad amounts the account is %v", got)
	}
}

// TestAccountIDIsUnique opens an account twice with the same id.
func TestAccountIDIsUnique(t *testing.T) {
	t.Parallel()
	p := launch(t, build(t), private(t))
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	body := `{"account_id":"` + uuid.NewString() + `","owner":"Ada","currency":"JPY"}`
	a.call("POST", "/accounts", body, 201)
	a.call("POST", "/accounts", body, 409)
	a.call("POST", "/deposits", `{"account_id":"`+uuid.NewString()+`","amount":1}`, 404)
	a.call("GET", "/accounts/"+uuid.NewString()+"/balance", "", 404)
}

// passable lets the user that PostgreSQL runs as enter a test's directory when the tests run as root.
func passable(t *testing.T, dir string) {
	t.Helper()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
