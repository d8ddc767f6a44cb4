// Package examples runs the examples against the real binary, as their comments say.
package examples

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestExamples(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	server := start(t, build(t, "../cmd/server"), database)
	today := time.Now().UTC().Format(time.DateOnly)
	client, projection := build(t, "./client"), build(t, "./projection")
	for _, step := range []struct{ program, argument, want string }{
		{client, server, "^Ada Lovelace has 12.34 EUR\nrefused: insufficient-funds\nevent: AccountCreated\nevent: MoneyDeposited\n$"},
		{projection, database, "^" + today[:8] + ".. EUR: 1 deposits, 1234 in minor units\n$"},
		{client, server, "^Ada Lovelace"},
		{projection, database, "^" + today[:8] + ".. EUR: 2 deposits, 2468 in minor units\n$"}, // it continues where it stopped
		{projection, pgtest.ServiceURL(t, database), "permission denied for schema .*; use the URL of the schema's owner .*\n$"},
	} {
		out, err := exec.CommandContext(t.Context(), step.program, step.argument).CombinedOutput()
		if (err != nil) != strings.Contains(step.want, "denied") || !regexp.MustCompile(step.want).Match(out) {
			t.Errorf("%s: %v\n%s\nwant %s", filepath.Base(step.program), err, out, step.want)
		}
	}
}

func build(t *testing.T, pkg string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", binary, pkg).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return binary
}

// start runs the server until the test ends, and returns its URL, which it finds in the server's log.
func start(t *testing.T, binary, database string) (url string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), "DATABASE_URL="+database, "PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_FORMAT=json")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	serving := regexp.MustCompile(`"msg":"serving","addr":"([0-9.:]+)"`)
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				found <- "http://" + m[1]
			}
		}
	}()
	t.Cleanup(func() { <-ended; _ = cmd.Wait() })
	select {
	case url = <-found:
	case <-ended:
		t.Fatal("the server has ended")
	case <-time.After(time.Minute):
		t.Fatal("the server is not ready within a minute")
	}
	return url
}
