package pgtest

import (
	"context"
	"net"
	"os"
	programs "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// installing is locked while a test of this process installs a package.
var installing sync.Mutex

// PgBouncer starts PgBouncer in front of the private PostgreSQL whose socket is in the directory, and returns its address.
// It replaces the keys of the map in the ini by their values. It installs PgBouncer from Debian's packages if it can.
func PgBouncer(t testing.TB, socketDir, ini string, replace map[string]string) (address string) {
	t.Helper()
	program := pgBouncerProgram(t)
	info, err := os.Stat(socketDir)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	address = listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	_ = listener.Close()

	config := writePgBouncer(t, port, ini, replace)
	var said strings.Builder
	cmd := programs.CommandContext(context.WithoutCancel(t.Context()), program, config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // it refuses to run as root
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pgbouncer said:\n%s", said.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), cleanupLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return address
		}
		if ctx.Err() != nil {
			t.Fatalf("pgtest: pgbouncer does not respond: %v", err)
		}
		<-tick.C
	}
}

// writePgBouncer writes an ini, and the users it names, where any user can read them.
func writePgBouncer(t testing.TB, port, ini string, replace map[string]string) (config string) {
	t.Helper()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	config = filepath.Join(dir, "ini")
	pairs := []string{"6432", port, "/etc/pgbouncer/userlist.txt", users}
	for from, to := range replace {
		pairs = append(pairs, from, to)
	}
	ini = strings.NewReplacer(pairs...).Replace(ini) + "\nunix_socket_dir =\n"
	for path, text := range map[string]string{config: ini, users: "\"passbook\" \"\"\n\"passbook_app\" \"\"\n\"postgres\" \"\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	for parent := dir; len(parent) > len(os.TempDir()); parent = filepath.Dir(parent) {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	return config
}

func pgBouncerProgram(t testing.TB) string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	for range 2 {
		for _, path := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"} {
			if path, err := programs.LookPath(path); err == nil {
				return path
			}
		}
		if _, err := programs.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
			break
		}
		install := programs.CommandContext(t.Context(), "apt-get", "install", "-y", "-q", "--no-install-recommends", "pgbouncer")
		install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("pgtest: %v: %s", err, out)
		}
	}
	t.Skip("pgbouncer is not installed, and only root can install it: apt-get install pgbouncer")
	return ""
}

// SocketDir returns the directory of the socket in the URL of a private PostgreSQL.
func SocketDir(t testing.TB, url string) string {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil || !strings.HasPrefix(config.Host, "/") {
		t.Fatalf("pgtest: %s has no socket, %v", url, err)
	}
	return config.Host
}
