package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

const (
	bare = `[databases]
passbook = host=SOCKETS dbname=passbook
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = trust
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = transaction
default_pool_size = 3
`
	// Often recommended: unknown parameters are dropped instead of refused.
	ignoring = bare + `ignore_startup_parameters = extra_float_digits,statement_timeout,lock_timeout,idle_in_transaction_session_timeout,plan_cache_mode,` +
		`default_transaction_isolation,default_transaction_deferrable,intervalstyle,bytea_output,array_nulls,transform_null_equals,` +
		`quote_all_identifiers,exit_on_error,idle_session_timeout,options,enable_seqscan,enable_hashjoin,enable_mergejoin,jit
`
)

// TestPoolsBehindPgBouncer uses more clients than sessions, so that each transaction may get another session.
func TestPoolsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for name, ini := range map[string]string{"refusing": bare, "ignoring": ignoring} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := with(t, server(t, map[string]string{}), "user", "passbook")
			address := pgtest.PgBouncer(t, pgtest.SocketDir(t, direct), ini, map[string]string{"SOCKETS": pgtest.SocketDir(t, direct)})
			through := "postgres://passbook@" + address + "/passbook?sslmode=disable"

			err := postgres.Migrate(t.Context(), through, slog.New(slog.DiscardHandler))
			if refused, ok := errors.AsType[*postgres.SessionError](err); !ok || !strings.Contains(refused.Reason, "PASSBOOK_DIRECT_DATABASE_URL") {
				t.Errorf("migrated through PgBouncer: %v", err)
			}
			if err := postgres.Migrate(t.Context(), direct, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			if err := postgres.Migrate(t.Context(), through, slog.New(slog.DiscardHandler)); err != nil {
				t.Errorf("the schema is the newest: %v", err)
			}
			pool, err := postgres.NewPool(t.Context(), through, postgres.WithGenericPlans(), postgres.WithMaxConns(8), postgres.WithIndexLookups())
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			use(t, pool)

			// Settings that cannot be sent must be set on the role.
			owner := open(t, direct)
			run(t, owner, "alter role passbook set default_transaction_isolation = 'repeatable read'",
				"select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename = 'passbook'")
			var refused *postgres.SessionError
			for refused == nil {
				other := open(t, through)
				err := other.Ping(t.Context())
				refused, _ = errors.AsType[*postgres.SessionError](err)
				if err == nil || t.Context().Err() != nil {
					t.Fatalf("repeatable read was accepted: %v", err)
				}
			}
			if want := "alter role passbook set default_transaction_isolation = 'read committed'"; !strings.Contains(refused.Reason, want) {
				t.Errorf("%q does not say %q", refused.Reason, want)
			}
		})
	}
}

// use makes clients do what the service does: repeat the same statements, with arguments and arrays.
func use(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for i := range 50 {
				var got int64
				var ids []int64
				err := pool.QueryRow(context.WithoutCancel(t.Context()), "select $1::bigint + (select count(*) from events), $2::bigint[]", i, []int64{int64(n)}).Scan(&got, &ids)
				if err != nil || got != int64(i) || len(ids) != 1 || ids[0] != int64(n) {
					t.Errorf("client %d: %d, %v, %v", n, got, ids, err)
					return
				}
			}
		})
	}
	clients.Wait()
}
