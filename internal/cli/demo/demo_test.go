package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestServerThatDoesNotStart ends at the first step, with an error, and leaves nothing behind.
func TestServerThatDoesNotStart(t *testing.T) { // not parallel: it sets where temporary files go
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	broken := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho it is broken >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Run(t.Context(), Config{Binary: broken, Out: &out, JSON: true})
	if err == nil || !strings.Contains(err.Error(), "step 1, Start") || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("%v", err)
	}
	var s step
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.OK || s.Error == "" {
		t.Errorf("%v: %s", err, &out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &presenter{out: &out}
	s := &step{Step: 3, Title: "Deposit", About: "Money\ncomes in."}
	p.begin(s)
	p.called(&call{Command: "curl x", Status: 201, Notes: []string{"A: b"}, Answer: json.RawMessage(`"` + strings.Repeat("é", longest+1) + `"`)})
	p.tell("%d of %d", 1, 2)
	s.expect("it is so", true, "never told")
	s.expect("it is not", false, "so")
	p.end(s)
	want := " 3  Deposit\n    Money\n    comes in.\n    $ curl x\n      A: b\n      201 " + strings.Repeat("é", longest) + "…\n" +
		"    1 of 2\n    ok it is so\n    FAILED it is not; got: so\n"
	if got := strings.TrimPrefix(out.String(), "\n"); got != want || s.held() {
		t.Errorf("%s", got)
	}
	out.Reset()
	p = &presenter{out: &out, colour: true}
	p.end(s)
	if !strings.Contains(out.String(), "\x1b[31mFAILED\x1b[0m") {
		t.Errorf("%q", out.String())
	}
}
