package main

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// TestRelayMetricsNeedAKey runs the relay as a process of its own, on a database with keys and without a NATS server.
func TestRelayMetricsNeedAKey(t *testing.T) {
	t.Parallel()
	database := "DATABASE_URL=" + pgtest.URL(t)
	keyWith := func(scope string) string {
		code, stdout, stderr := invoke(t.Context(), []string{"keys", "create", "--name", scope, "--scope", scope}, database, "HOME=/")
		if code != exitOK {
			t.Fatalf("%d %s", code, stderr)
		}
		all := strings.Split(strings.TrimSpace(stdout), "\n")
		return all[len(all)-1]
	}
	metrics, accounts := keyWith("metrics:read"), keyWith("accounts:read")
	p := launchCommand(t, exec.Command(build(t), "relay"), database, "PASSBOOK_AUTH=keys", "PASSBOOK_LOG_FORMAT=json",
		"PASSBOOK_RELAY_NATS_URL=nats://ledger:hush@127.0.0.1:1")
	p.awaitPort(t)
	get := func(path, key string) (status int, challenge, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			req.Header.Set("Authorization", "Bearer "+key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(text)
	}
	for _, one := range []struct {
		path, key, challenge, has string
		status                    int
	}{
		{"/livez", "", "", "", 200},
		{"/metrics", "", `Bearer realm="passbook"`, `"code":"unauthenticated"`, 401},
		{"/metrics", "pbk_unknown", `error="invalid_token"`, `"code":"invalid-credential"`, 401},
		{"/metrics", accounts, `scope="metrics:read"`, "metrics:read", 403},
		{"/metrics", metrics, "", "passbook_relay_lag_events 0", 200},
	} {
		status, challenge, body := get(one.path, one.key)
		if status != one.status || !strings.Contains(body, one.has) || !strings.Contains(challenge, one.challenge) {
			t.Errorf("%+v: %d %s %s", one, status, challenge, body)
		}
	}
	eventuallyTrue(t, time.Minute, "the log says why", func() bool {
		return strings.Contains(p.out.String(), "NATS at nats://127.0.0.1:1 is unavailable: connection refused")
	})
	if strings.Contains(p.out.String(), "hush") {
		t.Error("the log has the password")
	}
}
