package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
)

// TestVerifyAgainst compares the log of a restored backup with that of the server it was made from.
func TestVerifyAgainst(t *testing.T) {
	t.Parallel()
	bin, elsewhere := build(t), private(t)
	p := launch(t, bin, private(t))
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR","initial_deposit":"1.00"}`, 201)["account_id"].(string)
	dump := filepath.Join(t.TempDir(), "dump")
	if code, out := runWith(t, bin, p.cmd.Env[len(p.cmd.Env)-1], "backup", dump); code != 0 {
		t.Fatalf("backup: exit code %d: %s", code, out)
	}
	if code, out := runWith(t, bin, elsewhere, "restore", dump); code != 0 {
		t.Fatalf("restore: exit code %d: %s", code, out)
	}
	against := func(wantCode int, want ...string) {
		t.Helper()
		code, out := runWith(t, bin, elsewhere, "verify", "--against", p.base, "--event-type-prefix", "com.example")
		for _, w := range want {
			if code != wantCode || !strings.Contains(out, w) {
				t.Errorf("exit code %d, want %d and %q: %s", code, wantCode, w, out)
			}
		}
	}
	against(0, "up to position 2 (sha256 ")
	deposit := `{"account_id":"` + id + `","amount":"1.00"}`
	a.call("POST", "/deposits", deposit, 201)
	against(0, "up to position 2 (sha256 ", "the other has more")
	again := launch(t, bin, elsewhere)
	again.awaitReady(t, time.Minute)
	b := api{t, apitest.Client(t), again.base}
	b.call("POST", "/deposits", deposit, 201)
	against(1, "the logs differ at position 3", "\nhere ", "\nthere ")
}
