package postgres_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

// server starts a PostgreSQL for the test, and returns its superuser's URL.
func server(t *testing.T, settings map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-") //nolint:usetesting // t.TempDir is closed to the user PostgreSQL runs as
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	settings["fsync"], settings["shared_buffers"] = "off", "16MB"
	started, err := localpg.Start(ctx, localpg.Options{DataDir: dir, BinDir: os.Getenv("PG_BIN"), RuntimeDir: dir, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := started.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return with(t, started.URL(), "user", "postgres")
}

// TestUnreplicatedCommitIsAnError uses a primary whose synchronous standby is down. A commit whose wait is cancelled is only
// on the primary, and PostgreSQL reports that as a warning.
func TestUnreplicatedCommitIsAnError(t *testing.T) {
	t.Parallel()
	raw := server(t, map[string]string{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	superuser, err := pgx.Connect(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = superuser.Close(context.Background()) }()
	for _, sql := range []string{
		"create table t (id text)", "alter system set synchronous_standby_names = 'away'", "select pg_reload_conf()",
		"set synchronous_commit = local",
	} {
		if _, err := superuser.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	within := func(sql string) {
		t.Helper()
		for holds := false; !holds; {
			if err := superuser.QueryRow(ctx, sql).Scan(&holds); err != nil {
				t.Fatal(err)
			}
		}
	}
	within("select current_setting('synchronous_standby_names') = 'away'")
	pool, err := postgres.NewPool(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for name, write := range writes {
		failed := make(chan error, 1)
		go func() { failed <- write(ctx, pool, name) }()
		within("select exists (select from pg_stat_activity where wait_event = 'SyncRep')")
		within("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
		if err := <-failed; !postgres.IsUnavailable(err) {
			t.Errorf("%s: acknowledged although no standby has it: %v", name, err)
		}
		within("select exists (select from t where id = '" + name + "')")
		var one int
		if err := pool.QueryRow(ctx, "select 1").Scan(&one); err != nil || one != 1 {
			t.Errorf("%s: the pool cannot be used afterwards: %v", name, err)
		}
	}
}

// writes are the ways to commit a transaction.
var writes = map[string]func(ctx context.Context, pool *pgxpool.Pool, name string) error{
	"autocommit": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		_, err := pool.Exec(ctx, "insert into t values ($1)", name)
		return err
	},
	"a row": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		var got string
		return pool.QueryRow(ctx, "insert into t values ($1) returning id", name).Scan(&got)
	},
	"simple": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		_, err := pool.Exec(ctx, "insert into t values ('"+name+"')")
		return err
	},
	"transaction": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into t values ($1)", name)
			return err
		})
	},
	"batch": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		batch := new(pgx.Batch)
		batch.Queue("insert into t values ($1)", name)
		batch.Queue("select 1")
		return pool.SendBatch(ctx, batch).Close()
	},
	"begin and commit in a batch": func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		batch := new(pgx.Batch)
		batch.Queue("begin")
		batch.Queue("insert into t values ($1)", name)
		batch.Queue("commit")
		return pool.SendBatch(ctx, batch).Close()
	},
}
