package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// demonstrate runs server demo with a temporary directory of the test's own.
func demonstrate(t *testing.T, args ...string) (stdout, stderr, dir string, err error) {
	t.Helper()
	return demonstrateAs(t, exec.Command(build(t), append([]string{"demo"}, args...)...))
}

func demonstrateAs(t *testing.T, cmd *exec.Cmd) (stdout, stderr, dir string, err error) {
	t.Helper()
	dir = t.TempDir()
	passable(t, dir)
	// The demonstration must ignore the settings of a real server.
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "DATABASE_URL=postgres://nobody@127.0.0.1:1/nothing", "PASSBOOK_DATA_DIR="+filepath.Join(dir, "mine"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), dir, err
}

// TestDemo runs the demonstration: every step succeeds, and nothing is left behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	stdout, stderr, dir, err := demonstrate(t, "--json", "--deposits", "2000")
	if err != nil || stderr != "" {
		t.Fatalf("%v\n%s\n%s", err, stderr, stdout)
	}
	titles := make(map[string]bool)
	for line := range strings.Lines(stdout) {
		var step struct {
			Title  string
			OK     bool
			Calls  []struct{ Command string }
			Checks []struct{ OK bool }
		}
		if err := json.Unmarshal([]byte(line), &step); err != nil || !step.OK || len(step.Calls) == 0 || len(step.Checks) == 0 {
			t.Errorf("%v: %s", err, line)
		}
		titles[step.Title] = true
	}
	for _, want := range []string{"Read your write", "The same key twice", "Time travel", "An event that fails", "Repair, and retry", "Replay while reading", "Kill the server", "Verify"} {
		if !titles[want] {
			t.Errorf("there is no step %q", want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDemoWithClosedOutput checks that the demonstration ends, and leaves nothing behind, when its output is closed.
func TestDemoWithClosedOutput(t *testing.T) {
	t.Parallel()
	stdout, stderr, dir, err := demonstrateAs(t, exec.Command("bash", "-c", build(t)+" demo --json --deposits 200 | head -n 1"))
	if err != nil || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("%v\n%s\n%s", err, stderr, stdout)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v\n%s", left, err, stderr)
	}
}
