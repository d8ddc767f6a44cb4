package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

const appendOne = `select recorded from append(
  head_position => coalesce((select max(position) from public.events), 0),
  head_event => (select event_id from public.events order by position desc limit 1),
  streams => array[gen_random_uuid()], versions => '{1}', event_ids => array[gen_random_uuid()], payloads => array['{}'::jsonb],
  kinds => '{1}', types => '{Tried}', schemas => '{1}', metadata_of => '{1}', metadatas => array['{}'::jsonb],
  keys => array[gen_random_uuid()], fingerprints => array[gen_random_uuid()], key_first => '{1}', key_events => '{1}', refusals => '{null}')`

// TestTheLogIsAppendOnly attacks I9: as the service's role it tries everything that would change the log, or allow changing
// it. PostgreSQL refuses each attempt, but nothing that the service needs.
func TestTheLogIsAppendOnly(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	pool := open(t, pgtest.ServiceURL(t, owners))
	if role, err := postgres.RoleOf(t.Context(), pool); err != nil || !role.Separate {
		t.Fatalf("%+v, %v", role, err)
	}
	for range 3 {
		if _, err := pool.Exec(t.Context(), appendOne); err != nil {
			t.Fatal("the append itself is refused:", err)
		}
	}
	// PostgreSQL only warns about this one. The attacks after it show that it did nothing.
	if _, err := pool.Exec(t.Context(), "grant update, delete on events to public"); err != nil {
		t.Fatal(err)
	}
	for _, attack := range []string{
		"update events set payload = '{}' where position = 1",
		"update events set position = position + 1",
		"delete from events where position = 3",
		"with gone as (delete from events returning 1) select count(*) from gone",
		"truncate events",
		"truncate projections, events cascade",
		`insert into events select 4, stream_id, 2, gen_random_uuid(), type, schema_version, payload, metadata, recorded_at
from events where position = 3`,
		"copy events from stdin",
		"select * from events for update",
		"alter table events rename to other",
		"alter table events drop constraint events_pkey",
		"alter table events disable trigger all",
		"alter table events owner to current_user",
		"drop table events",
		"update events_1 set payload = '{}' where position = 1",
		"delete from events_1",
		"truncate events_1",
		"drop table events_1",
		"alter table events detach partition events_1",
		"create table more partition of events for values from (20000001) to (30000001)",
		"alter function extend_log security invoker",
		"drop function extend_log",
		"create trigger t before insert on events for each row execute function suppress_redundant_updates_trigger()",
		"create rule r as on insert to events do instead nothing",
		"create index i on events (type)",
		"create table mine (id int)",
		"create function f() returns int language sql as 'select 1'",
		"create schema mine",
		"alter function append security invoker",
		"alter function append reset search_path",
		"drop function append",
		"set role passbook",
		"set session authorization passbook",
		"set session_replication_role = replica",
		"insert into idempotency_keys select gen_random_uuid(), gen_random_uuid(), 1, now(), 1, null",
		"update idempotency_keys set first_position = 1",
		"update passbook_db_version set version_id = 1",
		"drop table balances",
		"truncate balances",
	} {
		_, err := pool.Exec(t.Context(), attack)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || (pgErr.Code != "42501" && pgErr.Code != "22023") { // insufficient privilege; no such role
			t.Errorf("%s: %v", attack, err)
		}
	}
	// append runs as its owner: it must not use a table or operator of the caller's.
	hijack := []string{
		"create temp table events (position bigint, recorded_at timestamptz, stream_id uuid, version bigint, event_id uuid)",
		"create temp table idempotency_keys (key uuid)",
		"set search_path = pg_temp, public",
		appendOne,
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, statement := range hijack {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	var count, last int64
	if err := open(t, owners).QueryRow(t.Context(), "select count(*), max(position) from events").Scan(&count, &last); err != nil {
		t.Fatal(err)
	}
	if count != 4 || last != 4 {
		t.Errorf("%d events up to position %d, want 4", count, last)
	}
}

// TestTheServiceMayUseEveryTable keeps the list of privileges complete: the service cannot use a table without any.
func TestTheServiceMayUseEveryTable(t *testing.T) {
	t.Parallel()
	owner := open(t, pgtest.URL(t))
	rows, _ := owner.Query(t.Context(), `select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')
and not relispartition and not has_table_privilege('passbook_service', oid, 'select') and relname not like 'passbook_db_version%seq'`)
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(missing) > 0 {
		t.Errorf("%v: no privileges for %v in roles.go", err, missing)
	}
	if role, err := postgres.RoleOf(t.Context(), owner); err != nil || role.Separate {
		t.Errorf("the owner counts as a role that cannot change the log: %+v, %v", role, err)
	}
}

// TestMissingPrivilegesAreGranted revokes what a restore without privileges lacks, and grants what should not be granted.
func TestMissingPrivilegesAreGranted(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	owner, service := open(t, owners), open(t, pgtest.ServiceURL(t, owners))
	for _, damage := range []string{
		"revoke all on all tables in schema public from passbook_service",
		"grant update on events to passbook_service",
		"grant update (payload) on events to passbook_service",
		"grant insert (position), references (position) on events to passbook_service",
		"grant trigger on events to passbook_service",
		"grant update (fingerprint) on idempotency_keys to passbook_service",
		"grant update (payload), delete on events to passbook_app",
		"grant delete on events to public",
		"grant delete on events_1 to passbook_service",
		"grant update (payload) on events_1 to public",
		"alter function extend_log security invoker",
		"grant execute on function extend_log to public",
		"grant truncate on events to passbook_app with grant option",
		"grant execute on function append to public",
		"alter function append security invoker",
		"alter function append reset search_path",
		"revoke execute on function append from passbook_service",
	} {
		if _, err := owner.Exec(t.Context(), damage); err != nil {
			t.Fatal(err)
		}
		before := acl(t, owner)
		if err := postgres.Migrate(t.Context(), owners, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if after := acl(t, owner); slices.Equal(before, after) {
			t.Errorf("%s: had no effect: %v", damage, after)
		}
		role, err := postgres.RoleOf(t.Context(), service)
		if err == nil {
			_, err = service.Exec(t.Context(), appendOne)
		}
		if err != nil || !role.Separate {
			t.Errorf("%s: not repaired: %+v, %v", damage, role, err)
		}
	}
}

func acl(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `select concat(relname, relacl) from pg_class where relname in ('events', 'events_1', 'balances')
union all select concat(attname, attacl) from pg_attribute where attrelid in ('events'::regclass, 'events_1'::regclass, 'idempotency_keys'::regclass)
union all select concat(prosecdef, proacl, proconfig) from pg_proc where proname in ('append', 'extend_log') order by 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestTheServiceCannotMigrate checks that a role which does not own the schema only reads the version.
func TestTheServiceCannotMigrate(t *testing.T) {
	t.Parallel()
	owner := pgtest.URL(t)
	service := pgtest.ServiceURL(t, owner)
	if err := postgres.Migrate(t.Context(), service, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the schema is the newest: %v", err)
	}
	newest, _ := version(t, owner) // including migrations of added projections
	next := fstest.MapFS{fmt.Sprintf("%05d_step.sql", newest+1): {Data: []byte("-- +goose Up\nselect 1;\n")}}
	err := postgres.MigrateFiles(t.Context(), service, next, slog.New(slog.DiscardHandler))
	older, ok := errors.AsType[*postgres.OlderDatabaseError](err)
	if !ok || !errors.Is(err, postgres.ErrOlderDatabase) || older.Binary != newest+1 || older.Database != newest {
		t.Errorf("a newer binary as the service: %v", err)
	}
	if err := postgres.MigrateFiles(t.Context(), pgtest.ServiceURL(t, empty(t)), migrationsTo(1), slog.New(slog.DiscardHandler)); !errors.Is(err, postgres.ErrOlderDatabase) {
		t.Errorf("an empty database as the service: %v", err)
	}
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestEachPrivilegeOnTheLogIsReported grants the service's login role, or a role that it can become, an excessive privilege.
func TestEachPrivilegeOnTheLogIsReported(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	owner, service := open(t, owners), open(t, pgtest.ServiceURL(t, owners))
	for give, take := range map[string]string{
		"grant update (payload) on events to passbook_app":      "revoke update (payload) on events from passbook_app",
		"grant insert (position) on events to passbook_service": "revoke insert (position) on events from passbook_service",
		"grant references (position) on events to public":       "revoke references (position) on events from public",
		"grant truncate on events to public":                    "revoke truncate on events from public",
		"grant update (payload) on events_1 to passbook_app":    "revoke update (payload) on events_1 from passbook_app",
		"grant create on schema public to passbook_service":     "revoke create on schema public from passbook_service",
	} {
		run(t, owner, give)
		if role, err := postgres.RoleOf(t.Context(), service); err != nil || role.Separate {
			t.Errorf("%s: not reported: %+v, %v", give, role, err)
		}
		run(t, owner, take)
		if role, err := postgres.RoleOf(t.Context(), service); err != nil || !role.Separate {
			t.Errorf("%s: still reported: %+v, %v", take, role, err)
		}
	}
}
