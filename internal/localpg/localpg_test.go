package localpg_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"passbook/internal/localpg"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		runChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// quick are the settings for tests of processes, not of disks.
var quick = map[string]string{"fsync": "off", "shared_buffers": "16MB"}

func options(t *testing.T, dir string) localpg.Options {
	t.Helper()
	return localpg.Options{DataDir: dir, BinDir: os.Getenv("PG_BIN"), Settings: quick, Logger: slog.New(slog.DiscardHandler)}
}

// dataDir makes a directory that the user PostgreSQL runs as can reach; root's t.TempDir is closed to others.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "passbook-localpg-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, opts localpg.Options) *localpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *localpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := server.Err(); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	var value string
	if err := connect(t, url).QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func socketDir(t *testing.T, server *localpg.Server) string {
	t.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("host")
}

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, options(t, dir))
	conn := connect(t, server.URL())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'here' AS what"); err != nil {
		t.Fatal(err)
	}
	stop(t, server) // a connection is still open: a fast shutdown does not wait for it
	select {
	case <-server.Done():
	default:
		t.Error("stopped, but not done")
	}

	again := start(t, options(t, dir))
	if got := query(t, again.URL(), "SELECT what FROM kept"); got != "here" {
		t.Errorf("got %q after a restart", got)
	}
	if again.URL() != server.URL() {
		t.Errorf("the URL has changed from %s to %s", server.URL(), again.URL())
	}
}

func TestServesTheServiceRoleOnASocketOnly(t *testing.T) {
	t.Parallel()
	server := start(t, localpg.Options{DataDir: dataDir(t), BinDir: os.Getenv("PG_BIN")})
	for sql, want := range map[string]string{
		"SELECT current_user || '@' || current_database()":                 "passbook@passbook",
		"SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user": "false",

		"SHOW listen_addresses":   "",
		"SHOW fsync":              "on",
		"SHOW synchronous_commit": "on",
		"SHOW full_page_writes":   "on",
		"SHOW data_checksums":     "on",
		"SHOW server_encoding":    "UTF8",

		"SELECT datcollate FROM pg_database WHERE datname = current_database()": "C",
	} {
		if got := query(t, server.URL(), sql); got != want {
			t.Errorf("%s = %q, want %q", sql, got, want)
		}
	}
}

func TestSecondStartIsRefused(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, options(t, dir))
	_, err := localpg.Start(t.Context(), options(t, dir))
	if !errors.Is(err, localpg.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	for _, want := range []string{fmt.Sprintf("process %d", os.Getpid()), dir, "PASSBOOK_DATA_DIR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not mention %q", err, want)
		}
	}
	if got := query(t, server.URL(), "SELECT 'alive'"); got != "alive" {
		t.Error("the first server did not survive the second start")
	}
}

func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), strings.Repeat("long", 50), strings.Repeat("längér and spaced ", 5))
	// The parents that Start makes are open; the one made by MkdirTemp is not.
	if err := os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o711); err != nil {
		t.Fatal(err)
	}
	opts := options(t, dir)
	opts.RuntimeDir = dir // too long for a socket, so /tmp is used
	server := start(t, opts)
	if got := socketDir(t, server); !strings.HasPrefix(got, "/tmp/passbook-") {
		t.Errorf("socket in %s", got)
	}
	if got := query(t, server.URL(), "SELECT 'alive'"); got != "alive" {
		t.Error("the server does not respond")
	}
}

func TestSocketDirectoryIsClosed(t *testing.T) {
	t.Parallel()
	server := start(t, options(t, dataDir(t)))
	dir := socketDir(t, server)
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%s has mode %v", dir, info.Mode())
	}
	stop(t, server)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left after Stop: %v", dir, err)
	}
}

func TestUnreachableParent(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory that the user PostgreSQL runs as cannot reach")
	}
	parent := dataDir(t)
	_, err := localpg.Start(t.Context(), options(t, filepath.Join(parent, "data")))
	if err == nil || !strings.Contains(err.Error(), "may not enter "+parent+" ") || !strings.Contains(err.Error(), "chmod") {
		t.Fatalf("got %v, want an error that names %s and what to do", err, parent)
	}
	if left, _ := filepath.Glob(filepath.Join(parent, "data", "*-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestForeignDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		prepare func(dir string) error
		want    string
	}{
		{
			name: "data of another major version",
			prepare: func(dir string) error {
				return os.Mkdir(filepath.Join(dir, "postgres-9"), 0o700)
			},
			want: "another major version",
		},
		{
			name: "no cluster in the directory of this version",
			prepare: func(dir string) error {
				for major := localpg.MinMajor; major < 40; major++ {
					if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("postgres-%d", major)), 0o755); err != nil {
						return err
					}
				}
				return nil
			},
			want: "is not a PostgreSQL data directory",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			if err := tc.prepare(dir); err != nil {
				t.Fatal(err)
			}
			_, err := localpg.Start(t.Context(), options(t, dir))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestBadBinDir(t *testing.T) {
	t.Parallel()
	opts := options(t, dataDir(t))
	opts.BinDir = t.TempDir()
	_, err := localpg.Start(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "PG_BIN="+opts.BinDir) {
		t.Fatalf("got %v, want an error that names PG_BIN", err)
	}
}

func TestFailedStartReportsWhy(t *testing.T) {
	t.Parallel()
	opts := options(t, dataDir(t))
	opts.Settings = map[string]string{"fsync": "off", "shared_buffers": "nonsense"}
	_, err := localpg.Start(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "shared_buffers") {
		t.Fatalf("got %v, want the reason from the log", err)
	}
	// Nothing is left locked: a start with valid settings succeeds.
	start(t, options(t, opts.DataDir))
}
