package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// with adds parameters to a database URL.
func with(t *testing.T, raw string, params ...string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for i := 0; i < len(params); i += 2 {
		query.Set(params[i], params[i+1])
	}
	u.RawQuery = query.Encode()
	return u.String()
}

func TestPoolSettings(t *testing.T) {
	t.Parallel()
	raw := pgtest.URL(t)
	for _, tc := range []struct {
		name     string
		url      string
		opts     []postgres.Option
		want     map[string]string
		maxConns int32
	}{
		{
			name: "options",
			url:  raw,
			opts: []postgres.Option{
				postgres.WithApplicationName("test"),
				postgres.WithMaxConns(3),
				postgres.WithStatementTimeout(7 * time.Second),
				postgres.WithLockTimeout(1500 * time.Millisecond),
				postgres.WithIdleInTransactionTimeout(time.Microsecond),
			},
			want: map[string]string{
				"application_name": "test", "statement_timeout": "7s", "lock_timeout": "1500ms",
				"idle_in_transaction_session_timeout": "1ms",
			},
			maxConns: 3,
		},
		{
			name: "the URL wins",
			url:  with(t, raw, "application_name", "mine", "statement_timeout", "9000", "pool_max_conns", "5"),
			opts: []postgres.Option{
				postgres.WithApplicationName("test"), postgres.WithStatementTimeout(time.Second), postgres.WithMaxConns(3),
			},
			want:     map[string]string{"application_name": "mine", "statement_timeout": "9s"},
			maxConns: 5,
		},
		{
			name: "defaults",
			url:  raw,
			want: map[string]string{"application_name": "passbook", "statement_timeout": "0"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pool, err := postgres.NewPool(t.Context(), tc.url, tc.opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			for name, want := range tc.want {
				var got string
				if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
					t.Errorf("%s = %q, %v; want %q", name, got, err, want)
				}
			}
			if got := pool.Config().MaxConns; tc.maxConns != 0 && got != tc.maxConns || got < 3 {
				t.Errorf("at most %d connections, want %d", got, tc.maxConns)
			}
		})
	}
}

func TestPoolWithoutDatabase(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	pool, err := postgres.NewPool(t.Context(), "postgres://u:secret@"+address+"/db")
	if err != nil {
		t.Fatalf("a pool needs no database to be made: %v", err)
	}
	defer pool.Close()
	err = pool.Ping(t.Context())
	if !postgres.IsUnavailable(err) {
		t.Errorf("got %v, want an error of an unavailable database", err)
	}
	err = postgres.Migrate(t.Context(), "postgres://u:secret@"+address+"/db", slog.New(slog.DiscardHandler))
	if !postgres.IsUnavailable(err) || strings.Contains(err.Error(), "secret") {
		t.Errorf("migrate: got %v, want an error of an unavailable database, without the password", err)
	}
}

func TestBadURLDoesNotShowThePassword(t *testing.T) {
	t.Parallel()
	_, err := postgres.NewPool(t.Context(), "postgres://u:secret@host:notaport/db")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestRealUnavailableErrors(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	slow := func(timeouts string, query string) error {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		if _, err := tx.Exec(t.Context(), timeouts); err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), query)
		return err
	}
	if _, err := pool.Exec(t.Context(), "CREATE TABLE t (id int)"); err != nil {
		t.Fatal(err)
	}
	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.WithoutCancel(t.Context()))
	if _, err := holder.Exec(t.Context(), "LOCK TABLE t"); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"statement timeout": slow("SET LOCAL statement_timeout = 10", "SELECT pg_sleep(60)"),
		"lock timeout":      slow("SET LOCAL lock_timeout = 10", "SELECT * FROM t"),
		"read-only":         slow("SET LOCAL transaction_read_only = on", "CREATE TABLE u ()"),
		"terminated":        slow("SELECT 1", "SELECT pg_terminate_backend(pg_backend_pid())"),
	} {
		if !postgres.IsUnavailable(err) {
			t.Errorf("%s: %v does not count as unavailable", name, err)
		}
	}
	if err := slow("SELECT 1", "SELECT 1/0"); err == nil || postgres.IsUnavailable(err) {
		t.Errorf("%v counts as unavailable", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := pool.Exec(ctx, "SELECT pg_sleep(60)"); !postgres.IsUnavailable(err) {
		t.Errorf("own time limit: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pool.Exec(gone, "SELECT 1"); !errors.Is(err, context.Canceled) || postgres.IsUnavailable(err) {
		t.Errorf("the caller gave up: %v", err)
	}
}

func version(t *testing.T, raw string) (version, rows int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	err = conn.QueryRow(t.Context(), "SELECT max(version_id), count(*) FROM passbook_db_version").Scan(&version, &rows)
	if err != nil {
		t.Fatal(err)
	}
	return version, rows
}

// TestReadOnlyConnectionsAreNotKept makes a connection read-only, as happens when an address still leads to the former
// primary.
func TestReadOnlyConnectionsAreNotKept(t *testing.T) {
	t.Parallel()
	pool, err := postgres.NewPool(t.Context(), pgtest.URL(t), postgres.WithMaxConns(1))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(t.Context(), "set session characteristics as transaction read only"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "create table t ()"); !postgres.IsUnavailable(err) {
		t.Fatalf("a write on a read-only connection: %v", err)
	}
	if _, err := pool.Exec(t.Context(), "create table t ()"); err != nil {
		t.Errorf("the connection was kept: %v", err)
	}
}
