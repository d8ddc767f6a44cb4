package main

import (
	"os"
	"strings"
	"testing"

	"passbook/internal/httpapi/apitest"
)

// TestMasterKeyIsChanged changes the master key in the steps of docs/erasure.md.
func TestMasterKeyIsChanged(t *testing.T) {
	t.Parallel()
	b := newErasureTestbed(t)
	_, file, _ := strings.Cut(b.settings[0], "=")
	before, after := strings.Repeat("0a", 32)+"\n", strings.Repeat("0b", 32)+"\n"
	client := apitest.Client(t)
	serve := func(keys string) *process {
		if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
			t.Fatal(err)
		}
		return b.launch(t, b.log)
	}
	open := func(p *process, owner string) {
		api{t, client, p.base}.call("POST", "/accounts", `{"owner":"`+owner+`","currency":"EUR"}`, 201)
	}
	p := serve(before + after)
	open(p, "Ada Before")
	p.stop(t)
	p = serve("# new first\n" + after + before)
	open(p, "Ada After")
	rewrap := func(want string) {
		t.Helper()
		if code, out := runWith(t, b.bin, "X=", "subjects", "rewrap", "--subject-master-key-file", file, "--subject-keys-database-url", b.keys); code != 0 || !strings.Contains(out, want) {
			t.Errorf("rewrap: exit code %d: %s", code, out)
		}
	}
	rewrap("1 of 2 keys were wrapped again")
	rewrap("0 of 2 keys were wrapped again; all are wrapped by the first line of the file\nIf every instance")
	p.stop(t)
	p = serve(after)
	if got := get(t, client, p.base+"/events"); !strings.Contains(got, "Ada Before") || !strings.Contains(got, "Ada After") {
		t.Errorf("with the new key alone: %s", got)
	}
	p.stop(t)
	if code, out := runWith(t, b.bin, "X=", "subjects", "rewrap"); code != 2 || !strings.Contains(out, "PASSBOOK_SUBJECT_MASTER_KEY_FILE") {
		t.Errorf("without keys: exit code %d: %s", code, out)
	}
}
