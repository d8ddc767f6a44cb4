package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
)

// TestBackupAndRestore backs up a private PostgreSQL while its server runs and while it is stopped, and restores both.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	bin, data := build(t), private(t)
	p := launch(t, bin, data)
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	for range 5 {
		a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1.00"}`, 201)
	}
	a.call("GET", "/accounts/"+id+"/balance?min_position=6", "", 200)

	beside, after := filepath.Join(t.TempDir(), "beside"), filepath.Join(t.TempDir(), "after")
	if code, out := runWith(t, bin, data, "backup", beside); code != 0 {
		t.Fatalf("backup beside the server: exit code %d: %s", code, out)
	}
	if code, out := runWith(t, bin, data, "restore", beside); code != 1 || !strings.Contains(out, "another Passbook") {
		t.Errorf("restore beside the server: exit code %d: %s", code, out)
	}
	p.stop(t)
	if code, out := runWith(t, bin, data, "backup", after); code != 0 {
		t.Fatalf("backup without a server: exit code %d: %s", code, out)
	}
	if code, out := runWith(t, bin, data, "restore", after); code != 1 || !strings.Contains(out, "nothing was changed") {
		t.Errorf("restore over data: exit code %d: %s", code, out)
	}
	for _, dump := range []string{beside, after} {
		elsewhere := private(t)
		if code, out := runWith(t, bin, elsewhere, "restore", dump); code != 0 || !strings.Contains(out, "the log up to position 6 is in") {
			t.Fatalf("restore: exit code %d: %s", code, out)
		}
		if code, out := runWith(t, bin, elsewhere, "verify"); code != 0 {
			t.Errorf("verify: exit code %d: %s", code, out)
		}
		again := launch(t, bin, elsewhere)
		again.awaitReady(t, time.Minute)
		b := api{t, apitest.Client(t), again.base}
		if got := b.call("GET", "/accounts/"+id+"/balance?min_position=6", "", 200)["balance"]; got != "5.00" {
			t.Errorf("balance %v", got)
		}
		if got := detailOf(b.call("GET", "/readyz", "", 200), "roles"); !strings.HasPrefix(got, "separate") {
			t.Errorf("roles: %s", got)
		}
		b.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1.00"}`, 201)
		again.stop(t)
	}
	// A file that is not a dump leaves nothing behind.
	nonsense := filepath.Join(t.TempDir(), "nonsense")
	if err := os.WriteFile(nonsense, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := private(t)
	if code, out := runWith(t, bin, empty, "restore", nonsense); code != 1 || !strings.Contains(out, "pg_restore") {
		t.Errorf("nonsense: exit code %d: %s", code, out)
	}
	if code, out := runWith(t, bin, empty, "restore", after); code != 0 {
		t.Errorf("after nonsense: exit code %d: %s", code, out)
	}
	if code, _ := runWith(t, bin, "DATABASE_URL=postgres://db/passbook", "backup", after); code != 2 {
		t.Errorf("with DATABASE_URL: exit code %d", code)
	}
}

// runWith runs a command of the binary with a setting.
func runWith(t *testing.T, bin, setting string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(append(os.Environ(), "DATABASE_URL="), setting)
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil {
		t.Errorf("stopped: %v", p.err)
	}
}

// TestDocumentedDumpCommands runs the commands that docs/operations.md gives for an external database.
func TestDocumentedDumpCommands(t *testing.T) {
	t.Parallel()
	bin, to := build(t), runRolesSQL(t)
	migrateAs(t, bin, to("passbook_owner"))
	p := launch(t, bin, "DATABASE_URL="+to("passbook_app"))
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("GET", "/accounts/"+id+"/balance?min_position=1", "", 200)

	script := exec.CommandContext(t.Context(), "bash", "-euc", "server() { "+bin+" \"$@\"; }\n"+blockOf(t, "## Backup and restore", "sh"))
	script.Dir = t.TempDir()
	database := func(role, name string) string { return strings.Replace(to(role), "/passbook?", "/"+name+"?", 1) }
	script.Env = append(os.Environ(), "owner="+to("passbook_owner"), "restored="+database("passbook_owner", "passbook_restored"),
		"admin="+database("postgres", "postgres"))
	out, err := script.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "1 events in the log") || !strings.Contains(string(out), "nothing differs") {
		t.Errorf("%v: %s", err, out)
	}
	b := launch(t, bin, "DATABASE_URL="+database("passbook_app", "passbook_restored"))
	b.awaitReady(t, time.Minute)
}
