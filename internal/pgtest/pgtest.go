// Package pgtest gives each test its own migrated database: on the server that TEST_DATABASE_URL names, in a container
// of the image that TEST_POSTGRES names, such as container:postgres:18, or else on a private PostgreSQL. The latter two live
// as long as the test process.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

const (
	startLimit   = 2 * time.Minute
	cleanupLimit = 30 * time.Second
	tempPrefix   = "passbook-test-"
	// staleAfter is the age at which leftovers of a killed test process are removed.
	staleAfter = 10 * time.Minute
)

// server is shared by the tests of this process. The first test that needs it starts it.
var server struct {
	inMain atomic.Bool
	once   sync.Once
	err    error

	// Only the one that fits the kind of the server is set.
	local         *localpg.Server
	stopContainer func(context.Context) error

	tempDir  string
	url      *url.URL
	admin    *pgxpool.Pool
	template string
}

// Tests are the tests of a package: a *testing.M, or one with something around it.
type Tests interface{ Run() int }

// Main calls Run and exits with its code.
func Main(m Tests) { os.Exit(Run(m)) }

// Run runs the tests of a package, fails them if they leave goroutines behind, removes the server, and returns the exit code.
func Run(m Tests) int {
	server.inMain.Store(true)
	code := m.Run()
	if server.admin != nil {
		server.admin.Close()
	}
	// The goroutine that holds the thread of the private server, and the one that would remove a container if this process were
	// killed, go with the server, below.
	err := goleak.Find(goleak.IgnoreAnyFunction("passbook/internal/localpg.(*process).run"),
		goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1"))
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = 1
	}
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = 1
	}
	return code
}

// New returns a pool on a freshly migrated database that no other test sees. Both are removed when the test ends.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), URL(t))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL is New for tests that make their own connections. Connections still open when the test ends are cut.
func URL(t testing.TB) string {
	t.Helper()
	if !server.inMain.Load() {
		t.Fatal("pgtest: the package needs func TestMain(m *testing.M) { pgtest.Main(m) }")
	}
	server.once.Do(func() { server.err = start() })
	if server.err != nil {
		t.Fatalf("pgtest: %v", server.err)
	}
	name := newName()
	if err := exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+server.template); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := drop(name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return urlOf(name)
}

// ServiceURL turns a result of URL into a URL of the same database for the service's role, which does not own it. With
// TEST_DATABASE_URL, the role in it must be allowed to SET ROLE to the service's role.
func ServiceURL(t testing.TB, owners string) string {
	t.Helper()
	u, err := url.Parse(owners)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	q := u.Query()
	if server.local != nil {
		q.Set("user", "passbook_app")
	} else {
		q.Set("role", postgres.ServiceRole)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// newName returns a name for a new database that needs no quoting.
func newName() string { return "passbook_test_" + strings.ToLower(rand.Text()) }

func urlOf(database string) string {
	u := *server.url
	u.Path = "/" + database
	return u.String()
}

func exec(ctx context.Context, statement string) error {
	if _, err := server.admin.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

func drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	err := exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "42501" {
		// Autovacuum is running there, which only a superuser may end by force. Without force, it ends when asked.
		return exec(ctx, "DROP DATABASE IF EXISTS "+name)
	}
	return err
}

// start finds or starts the server and makes the template that the tests' databases are copied from.
func start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	raw, err := find(ctx)
	if err != nil {
		return err
	}
	if server.url, err = url.Parse(raw); err != nil || !strings.HasPrefix(server.url.Scheme, "postgres") {
		return errors.New("TEST_DATABASE_URL must have the form postgres://user:password@host:port/database")
	}
	if server.admin, err = postgres.NewPool(context.Background(), raw, postgres.WithMaxConns(4)); err != nil {
		return err
	}
	name := newName()
	if err := exec(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	server.template = name
	return postgres.Migrate(ctx, urlOf(name), slog.New(slog.DiscardHandler))
}

// find returns the URL of the server that the environment names, starting it if necessary.
func find(ctx context.Context) (url string, err error) {
	image, err := containerImage()
	switch {
	case err != nil:
		return "", err
	case image != "":
		return startContainer(ctx, image)
	case os.Getenv("TEST_DATABASE_URL") != "":
		return os.Getenv("TEST_DATABASE_URL"), nil
	}
	if err := startLocal(ctx); err != nil {
		return "", err
	}
	return server.local.URL(), nil
}

// startLocal starts a private server. Its data must survive a crash of the process, not of the machine.
func startLocal(ctx context.Context) error {
	removeStale()
	dir, err := os.MkdirTemp("", tempPrefix)
	if err != nil {
		return err
	}
	server.tempDir = dir
	server.local, err = localpg.Start(ctx, localpg.Options{
		DataDir:    dir,
		RuntimeDir: dir,
		BinDir:     os.Getenv("PG_BIN"),
		Settings: map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
			"max_connections": "200", "shared_buffers": "64MB", "max_wal_size": "4GB",
		},
	})
	return err
}

// stop removes everything start made.
func stop() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	switch {
	case server.local != nil:
		errs = append(errs, server.local.Stop(ctx))
	case server.stopContainer != nil:
		errs = append(errs, server.stopContainer(ctx))
	case server.template != "":
		errs = append(errs, dropTemplate())
	}
	if server.tempDir != "" {
		errs = append(errs, os.RemoveAll(server.tempDir))
	}
	return errors.Join(errs...)
}

func dropTemplate() error {
	pool, err := postgres.NewPool(context.Background(), server.url.String(), postgres.WithMaxConns(1))
	if err != nil {
		return err
	}
	defer pool.Close()
	server.admin = pool
	return drop(server.template)
}

// removeStale removes the directories of test processes that were killed. Their servers died with them.
func removeStale() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir) // it may belong to another user, who must remove it
		}
		_ = lock.Close()
	}
}

// AppendWaits is a query that returns whether an append is waiting for HoldAppendLock's lock.
const AppendWaits = `select exists (select from pg_locks where locktype = 'advisory' and not granted
and database = (select oid from pg_database where datname = current_database()))`

// HoldAppendLock blocks all appends until the returned function is called.
func HoldAppendLock(t testing.TB, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_advisory_xact_lock(7018230141)"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := tx.Rollback(context.Background()); err != nil {
			t.Errorf("release the append lock: %v", err)
		}
	}
}
