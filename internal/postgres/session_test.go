package postgres_test

import (
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// presets are settings of a role or a database that would change what the service's SQL means.
var presets = map[string]string{
	"default_transaction_isolation": "repeatable read", "default_transaction_deferrable": "on", "client_encoding": "LATIN1",
	"datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "timezone": "Asia/Kathmandu", "standard_conforming_strings": "off",
	"bytea_output": "escape", "extra_float_digits": "-15", "array_nulls": "off", "transform_null_equals": "on",
	"quote_all_identifiers": "on", "exit_on_error": "on",
	"statement_timeout": "1", "lock_timeout": "1", "idle_in_transaction_session_timeout": "1", "idle_session_timeout": "1",
}

func preset(t *testing.T, admin *pgxpool.Pool) {
	t.Helper()
	name := admin.Config().ConnConfig.Database
	for setting, value := range presets {
		if _, err := admin.Exec(t.Context(), "alter database "+name+" set "+setting+" = '"+value+"'"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSessionsAreTheServicesOwn presets all of them, migrates, and checks the settings of a pool's sessions.
func TestSessionsAreTheServicesOwn(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	preset(t, open(t, raw))
	if err := postgres.Migrate(t.Context(), raw, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal("migrate:", err)
	}
	pool, err := postgres.NewPool(t.Context(), raw, postgres.WithLockTimeout(5*time.Second), postgres.WithIndexLookups(), postgres.WithGenericPlans())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	want := map[string]string{
		"default_transaction_isolation": "read committed", "transaction_isolation": "read committed", "client_encoding": "UTF8",
		"DateStyle": "ISO, MDY", "lock_timeout": "5s", "statement_timeout": "0", "enable_hashjoin": "off", "enable_mergejoin": "off",
		"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan",
	}
	for setting := range want {
		var got string
		if err := pool.QueryRow(t.Context(), "select current_setting($1)", setting).Scan(&got); err != nil || got != want[setting] {
			t.Errorf("%s is %q, want %q (%v)", setting, got, want[setting], err)
		}
	}
	for setting, value := range presets {
		var got string
		if err := pool.QueryRow(t.Context(), "select setting from pg_settings where lower(name) = $1", setting).Scan(&got); err != nil || got == value {
			t.Errorf("%s is %q, the preset (%v)", setting, got, err)
		}
	}
}

// TestIndexLookupsAreNotCompiled explains the statement that reads the version of the schema, for which there is no index.
func TestIndexLookupsAreNotCompiled(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	if err := postgres.Migrate(t.Context(), raw, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal("migrate:", err)
	}
	pool, err := postgres.NewPool(t.Context(), raw, postgres.WithIndexLookups())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	rows, _ := pool.Query(t.Context(), "explain select coalesce(max(version_id), 0) from passbook_db_version where is_applied")
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(plan, "JIT:") {
		t.Errorf("it is compiled:\n%s", strings.Join(plan, "\n"))
	}
}

// TestParametersOfThePoolStayHere uses a URL as docs/operations.md recommends.
func TestParametersOfThePoolStayHere(t *testing.T) {
	t.Parallel()
	raw := with(t, empty(t), "pool_max_conns", "3", "pool_min_conns", "1", "pool_min_idle_conns", "1", "pool_max_conn_lifetime", "1h",
		"pool_max_conn_idle_time", "5m", "pool_health_check_period", "1m", "pool_max_conn_lifetime_jitter", "1m")
	if err := postgres.Migrate(t.Context(), raw, slog.New(slog.DiscardHandler)); err != nil {
		t.Error("migrate:", err)
	}
	pool, err := postgres.NewPool(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOtherEncodingsAreRefused makes a database whose encoding cannot store every name.
func TestOtherEncodingsAreRefused(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	name := pool.Config().ConnConfig.Database + "_latin1"
	if _, err := pool.Exec(t.Context(), "create database "+name+" template template0 encoding 'LATIN1' locale 'C'"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := pool.Exec(t.Context(), "drop database "+name+" with (force)"); err != nil {
			t.Error(err)
		}
	}()
	u, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	err = postgres.Migrate(t.Context(), u.String(), slog.New(slog.DiscardHandler))
	refused, ok := errors.AsType[*postgres.SessionError](err)
	if !ok || !strings.Contains(refused.Reason, "the encoding LATIN1") {
		t.Errorf("migrate: %v", err)
	}
	other, err := postgres.NewPool(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Ping(t.Context()); !postgres.IsUnavailable(err) {
		t.Errorf("a pool: %v", err)
	}
}
