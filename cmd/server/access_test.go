package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// hosted is a server that runs in this process.
type hosted struct {
	addr, base string
	log        *lockedBuffer
}

// host serves on a port that the system chooses, until the test ends.
func host(t *testing.T, settings ...string) *hosted {
	t.Helper()
	h := &hosted{log: new(lockedBuffer)}
	env := map[string]string{"HOME": t.TempDir(), "PASSBOOK_ADDR": "127.0.0.1:0", "PASSBOOK_LOG_LEVEL": "debug"}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		env[name] = value
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() { done <- run(ctx, nil, environ(env), h.log, h.log) }()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitOK {
			t.Errorf("the server ended with %d", code)
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", h.log.String())
		}
	})
	eventually(t, "the server listens", func() bool {
		found := listening.FindStringSubmatch(h.log.String())
		if found != nil {
			h.addr = found[1]
		}
		return found != nil
	})
	h.base = "http://" + h.addr
	return h
}

// eventually waits until the condition holds, for a minute at most.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("timed out waiting: " + what)
		}
	}
}

func (h *hosted) awaitReady(t *testing.T, settings ...string) {
	t.Helper()
	eventually(t, "ready", func() bool {
		code, _, _ := invoke(t.Context(), []string{"healthcheck"}, append(settings, "HOME=/", "PASSBOOK_ADDR="+h.addr)...)
		return code == exitOK
	})
}

// answer sends a request and returns the status and body of the response.
func (h *hosted) answer(t *testing.T, method, path, key, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := apitest.Client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var all bytes.Buffer
	_ = response.Header.Write(&all)
	if _, err := io.Copy(&all, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, all.String()
}

// file writes a secret to a new file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withPassword adds a password to a database URL that needs none.
func withPassword(t *testing.T, raw string) (databaseURL, password string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if password, ok := u.User.Password(); ok {
		return raw, password
	}
	q := u.Query()
	q.Set("password", "hunter2-of-the-database")
	u.RawQuery = q.Encode()
	return u.String(), q.Get("password")
}

// TestKeysEndToEnd creates a key with the binary's command, uses it and revokes it. No log, metric, problem, dump or
// pg_stat_activity then contains its secret or the database's password.
func TestKeysEndToEnd(t *testing.T) {
	t.Parallel()
	databaseURL, password := withPassword(t, pgtest.URL(t))
	database := "DATABASE_URL_FILE=" + file(t, databaseURL)
	newKey := func(args ...string) string {
		code, stdout, stderr := invoke(t.Context(), append([]string{"keys", "create"}, args...), database, "HOME=/")
		lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
		if code != exitOK || strings.Contains(stderr, "pbk_") {
			t.Fatalf("%d %s", code, stderr)
		}
		return lines[len(lines)-1]
	}
	key := newKey("--name", "shop", "--scope", "accounts:write", "--scope", "accounts:read,events:read")
	var ops struct{ ID, Key string }
	if err := json.Unmarshal([]byte(newKey("--name", "ops", "--scope", "projections:admin", "--scope", "metrics:read", "--json")), &ops); err != nil {
		t.Fatal(err)
	}
	id, secret, ok := strings.Cut(strings.TrimPrefix(key, "pbk_"), "_")
	if !ok || len(secret) != 52 {
		t.Fatalf("the key is %q", key)
	}
	h := host(t, database, "PASSBOOK_AUTH=keys")
	h.awaitReady(t)
	var said strings.Builder // every response of the server
	expect := func(method, path, key, body string, want int) string {
		t.Helper()
		status, text := h.answer(t, method, path, key, body)
		if status != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, status, want, text)
		}
		said.WriteString(text)
		return text
	}
	const account = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f"
	expect("POST", "/accounts", key, `{"account_id":"`+account+`","owner":"Ada","currency":"EUR"}`, 201)
	expect("POST", "/deposits", key, `{"account_id":"`+account+`","amount":"1"}`, 201)
	expect("GET", "/accounts/"+account+"/balance?min_position=2", key, "", 200)
	if events := expect("GET", "/events", key, "", 200); !strings.Contains(events, `"actor":"key:`+id+` shop"`) {
		t.Errorf("the events' actor is not the key: %s", events)
	}
	expect("POST", "/projections/balances/replay", key, "", 403)
	expect("GET", "/accounts/"+account+"?"+secret+"="+secret, "", "", 401)
	expect("GET", "/metrics", key[:len(key)-1]+"1", "", 401)
	expect("GET", "/metrics", ops.Key, "", 200)
	if code, stdout, stderr := invoke(t.Context(), []string{"status"}, "HOME=/", "PASSBOOK_ADDR="+h.addr, "PASSBOOK_KEY_FILE="+file(t, ops.Key)); code != exitOK {
		t.Errorf("status: %d %s %s", code, stdout, stderr)
	}
	if code, _, stderr := invoke(t.Context(), []string{"status", "--key", key}, "HOME=/", "PASSBOOK_ADDR="+h.addr); code != exitFailed || !strings.Contains(stderr, "projections:read") {
		t.Errorf("status with too narrow a key: %d %s", code, stderr)
	}
	if code, _, stderr := invoke(t.Context(), []string{"replay", "balances"}, "HOME=/", "PASSBOOK_ADDR="+h.addr); code != exitFailed || !strings.Contains(stderr, "PASSBOOK_KEY") {
		t.Errorf("replay without a key: %d %s", code, stderr)
	}
	list := func() string {
		code, stdout, stderr := invoke(t.Context(), []string{"keys", "list"}, database, "HOME=/")
		if code != exitOK {
			t.Fatalf("list: %d %s", code, stderr)
		}
		return stdout
	}
	eventually(t, "the last use is listed", func() bool {
		for line := range strings.Lines(list()) {
			if fields := strings.Fields(line); fields[0] == id {
				return fields[1] == "shop" && fields[4] != "-" && fields[5] == "-"
			}
		}
		return false
	})
	activity := h.endedBy(t, key, databaseURL, func() {
		if code, stdout, stderr := invoke(t.Context(), []string{"keys", "revoke", "shop"}, database, "HOME=/"); code != exitOK || !strings.Contains(stdout, id) {
			t.Errorf("revoke: %d %s %s", code, stdout, stderr)
		}
	})
	expect("GET", "/accounts", key, "", 401)
	expect("GET", "/projections", ops.Key, "", 200)
	for where, text := range map[string]string{
		"the log": h.log.String(), "an answer": said.String(), "pg_stat_activity": activity, "the list of keys": list(), "a dump": dump(t, databaseURL),
	} {
		if len(text) < 100 {
			t.Errorf("%s is %q", where, text)
		}
		_, opsSecret, _ := strings.Cut(strings.TrimPrefix(ops.Key, "pbk_"), "_")
		for name, value := range map[string]string{"the key": secret, "the other key": opsSecret, "the password": password} {
			if strings.Contains(text, value) {
				t.Errorf("%s has %s in it:\n%s", where, name, text)
			}
		}
	}
}

// endedBy holds a stream open until the given function ends it, and returns what the database was doing meanwhile.
func (h *hosted) endedBy(t *testing.T, key, databaseURL string, do func()) (activity string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Accept", "text/event-stream")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewReader(response.Body)
	if _, err := lines.ReadString('\n'); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	const all = `SELECT string_agg(application_name || ': ' || query, E'\n') FROM pg_stat_activity WHERE datname = current_database()`
	if err := conn.QueryRow(t.Context(), all).Scan(&activity); err != nil {
		t.Fatal(err)
	}
	do()
	if _, err := io.Copy(io.Discard, lines); err != nil {
		t.Error(err)
	}
	return activity
}

// dump returns the whole database as text, by pg_dump.
func dump(t *testing.T, databaseURL string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	number, err := strconv.Atoi(conn.PgConn().ParameterStatus("server_version")[:2])
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program(t, "pg_dump", strconv.Itoa(number)), "--dbname="+databaseURL).Output()
	if err != nil || !bytes.Contains(out, []byte("api_keys")) {
		t.Fatalf("pg_dump: %v", err)
	}
	return string(out)
}

// TestUnavailableDatabaseLeaksNoSecrets checks that the log names the database's address, but not its password.
func TestUnavailableDatabaseLeaksNoSecrets(t *testing.T) {
	t.Parallel()
	for _, databaseURL := range []string{
		"postgres://passbook:hunter2@127.0.0.1:1/passbook?sslmode=disable",
		"host=127.0.0.1 port=1 user=passbook password=hunter2 dbname=passbook sslmode=disable",
	} {
		h := host(t, "DATABASE_URL="+databaseURL, "PASSBOOK_AUTH=keys")
		eventually(t, "the log reports it", func() bool { return strings.Contains(h.log.String(), "the database is not ready; retrying") })
		status, text := h.answer(t, "GET", "/totals", "pbk_"+strings.Repeat("a", 16)+"_"+strings.Repeat("b", 52), "")
		if status != http.StatusServiceUnavailable {
			t.Errorf("%d %s", status, text)
		}
		if status, text := h.answer(t, "GET", "/livez", "", ""); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
		if all := h.log.String() + text; strings.Contains(all, "hunter2") || strings.Contains(all, strings.Repeat("b", 52)) {
			t.Errorf("a secret was leaked: %s", all)
		}
	}
}

// TestKeysBeforeTheFirstStart creates a key before the private PostgreSQL exists.
func TestKeysBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	data := private(t)
	if code, _, stderr := invoke(t.Context(), []string{"keys", "list"}, data, "HOME=/"); code != exitFailed || !strings.Contains(stderr, "no private PostgreSQL") {
		t.Errorf("list: %d %s", code, stderr)
	}
	code, stdout, stderr := invoke(t.Context(), []string{"keys", "create", "--name", "shop", "--scope", "accounts:read"}, data, "HOME=/", "PASSBOOK_LOG_LEVEL=warn")
	if code != exitOK {
		t.Fatalf("%d %s", code, stderr)
	}
	key := stdout[strings.LastIndex(strings.TrimSpace(stdout), "\n")+1 : len(stdout)-1]
	h := host(t, data, "PASSBOOK_AUTH=keys")
	h.awaitReady(t)
	if status, text := h.answer(t, "GET", "/accounts", key, ""); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	// While the server runs.
	if code, stdout, stderr := invoke(t.Context(), []string{"keys", "revoke", "shop", "--json"}, data, "HOME=/"); code != exitOK || !strings.Contains(stdout, `"revoked_at":"2`) {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	eventually(t, "the key is refused", func() bool {
		status, _ := h.answer(t, "GET", "/accounts", key, "")
		return status == http.StatusUnauthorized
	})
}

func TestInvalidKeysCommands(t *testing.T) {
	t.Parallel()
	database := "DATABASE_URL=" + pgtest.URL(t)
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"keys", exitSettings, "create, list or revoke"},
		{"keys make", exitSettings, "make"},
		{"keys create --scope accounts:read", exitSettings, "--name"},
		{"keys create --name a", exitSettings, "accounts:write, accounts:read"},
		{"keys create --name a --scope all", exitSettings, `"all" is not a scope; there are accounts:write`},
		{"keys create --name a --scope", exitSettings, "--scope"},
		{"keys create a --name a --scope accounts:read", exitSettings, `"a"`},
		{"keys create --name a\x01b --scope accounts:read", exitSettings, "printable"},
		{"keys create --name a --scope accounts:read", exitOK, ""},
		{"keys create --name a --scope accounts:read", exitFailed, "revoke that key first"},
		{"keys list a", exitSettings, `"a"`},
		{"keys revoke", exitSettings, "name one key"},
		{"keys revoke b", exitFailed, `"b"; server keys list`},
		{"keys revoke a", exitOK, ""},
		{"keys revoke a", exitFailed, "no key in use"},
		{"keys list --json", exitOK, ""},
	} {
		code, stdout, stderr := invoke(t.Context(), strings.Fields(test.args), database, "HOME=/", "PASSBOOK_LOG_LEVEL=warn")
		if code != test.code || !strings.Contains(stderr, test.says) {
			t.Errorf("%s: %d %s %s", test.args, code, stdout, stderr)
		}
	}
}
