package localpg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/localpg"
)

// childEnv makes the test binary a process that starts a server in the directory named, prints its URL and waits
// to be killed.
const childEnv = "PASSBOOK_LOCALPG_TEST_CHILD"

func runChild(dir string) {
	server, err := localpg.Start(context.Background(), localpg.Options{DataDir: dir, BinDir: os.Getenv("PG_BIN")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(server.URL())
	<-server.Done()
	os.Exit(1)
}

// startChild returns a running child and the URL of its server.
func startChild(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the child did not start: %v", err)
	}
	return cmd, strings.TrimSpace(line)
}

// write runs a load on the database until its connection is cut, and returns the last acknowledged value.
func write(ctx context.Context, url string, first chan<- struct{}) (last int, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS written (n int PRIMARY KEY, pad text)"); err != nil {
		return 0, err
	}
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(n), 0) FROM written").Scan(&last); err != nil {
		return 0, err
	}
	for i := 0; ; i++ {
		if _, err := conn.Exec(ctx, "INSERT INTO written VALUES ($1, repeat('x', 5000))", last+1); err != nil {
			return last, nil // cut, as expected
		}
		last++
		if i == 100 {
			close(first)
		}
	}
}

func TestKilledParentLeavesNoServerAndLosesNothing(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	acknowledged := 0
	for range 3 {
		child, url := startChild(t, dir)
		running := make(chan struct{})
		type result struct {
			last int
			err  error
		}
		written := make(chan result, 1)
		go func() {
			last, err := write(t.Context(), url, running)
			written <- result{last, err}
		}()
		select {
		case <-running:
		case r := <-written:
			t.Fatalf("the load ended early: %+v", r)
		}

		killed := time.Now()
		if err := child.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		server := start(t, localpg.Options{DataDir: dir, BinDir: os.Getenv("PG_BIN")})
		t.Logf("ready again %v after the kill", time.Since(killed)) // make bench checks the time, on an idle machine
		r := <-written
		if r.err != nil {
			t.Fatal(r.err)
		}
		var have int
		if err := connect(t, server.URL()).QueryRow(t.Context(), "SELECT max(n) FROM written").Scan(&have); err != nil {
			t.Fatal(err)
		}
		if have < r.last || have < acknowledged {
			t.Errorf("have %d rows, %d were acknowledged", have, r.last)
		}
		acknowledged = have
		stop(t, server)
	}
}

func TestKilledParentEndsTheServer(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child to the end of its parent; elsewhere the next start stops it")
	}
	dir := dataDir(t)
	child, _ := startChild(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "postgres-*", "postmaster.pid"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the server's pid file: %v, %v", files, err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The server removes the file last in an orderly shutdown.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		if _, err := os.Stat(files[0]); errors.Is(err, fs.ErrNotExist) {
			start(t, options(t, dir)) // succeeds, and cleans up after itself and the child
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the server outlived its parent")
		}
	}
}

func TestForeignServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	foreign := start(t, options(t, dir))
	clusters, err := filepath.Glob(filepath.Join(dir, "postgres-*[0-9]"))
	if err != nil || len(clusters) != 1 {
		t.Fatalf("%v, %v", clusters, err)
	}
	// To a second start it looks like a server that pg_ctl started: without Passbook's lock, and with a socket elsewhere.
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(clusters[0], "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	disguised := strings.Replace(string(text), socketDir(t, foreign), "/var/run/postgresql", 1)
	if err := os.WriteFile(pidFile, []byte(disguised), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = localpg.Start(t.Context(), options(t, dir))
	if err == nil || !strings.Contains(err.Error(), "did not start") {
		t.Errorf("got %v, want a refusal", err)
	}
	if got := query(t, foreign.URL(), "SELECT 'alive'"); got != "alive" {
		t.Error("the other server was stopped")
	}
	if err := os.WriteFile(pidFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
