package postgres_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/migrations"
)

type partition struct {
	Name        string
	First, Last int64
}

func partitions(t *testing.T, pool *pgxpool.Pool) []partition {
	t.Helper()
	rows, _ := pool.Query(t.Context(), "select name, first_position, last_position from log_partitions order by 2")
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// smallPartitions replaces the partition of an empty log.
func smallPartitions(t *testing.T, pool *pgxpool.Pool, size int) {
	t.Helper()
	run(t, pool, "drop table events_1", fmt.Sprintf("select extend_log(%d)", size))
}

// upTo returns the migrations up to a version, the last of them without its statements from the one on that contains cut.
func upTo(t *testing.T, version, cut string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		if name[:5] > version {
			continue
		}
		if at := strings.Index(string(text), cut); cut != "" && name[:5] == version {
			at = strings.LastIndex(string(text[:at]), "-- +goose StatementBegin")
			text = append(text[:at:at], "select 1/0;\n"...)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	return files
}

// TestALogBecomesPartitioned migrates a log with events in place: no row is copied. The migration is interrupted after each of its
// statements, and run again.
func TestALogBecomesPartitioned(t *testing.T) {
	t.Parallel()
	for events, want := range map[int64][]partition{
		0:          {{"events_1", 1, 10_000_000}},
		3:          {{"events_1", 1, 20_000_000}, {"events_20000001", 20_000_001, 30_000_000}},
		10_000_000: {{"events_1", 1, 30_000_000}, {"events_30000001", 30_000_001, 40_000_000}},
	} {
		t.Run(fmt.Sprint(events), func(t *testing.T) {
			t.Parallel()
			raw := empty(t)
			pool, quiet := open(t, raw), slog.New(slog.DiscardHandler)
			// It cannot grant what comes with the later migration.
			if err := postgres.MigrateFiles(t.Context(), raw, upTo(t, "00005", ""), quiet); err == nil {
				t.Fatal("the privileges of this release were granted")
			}
			if v, _ := version(t, raw); v != 5 {
				t.Fatalf("version %d", v)
			}
			run(t, pool, fmt.Sprintf(`insert into events select n, gen_random_uuid(), 1, gen_random_uuid(), 'Tried', 1, '{"n": 1}', '{}', now()
from generate_series(greatest(%d - 2, 1), %[1]d) n`, events))
			before := rowsOf(t, pool, "events")
			for _, cut := range []string{"validate constraint", "rename to events_1", "view log_partitions", "function extend_log", "function append(", "perform extend_log"} {
				if err := postgres.MigrateFiles(t.Context(), raw, upTo(t, "00006", cut), quiet); err == nil {
					t.Fatalf("it was not interrupted before %q", cut)
				}
			}
			if err := postgres.Migrate(t.Context(), raw, quiet); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, partitions(t, pool)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, rowsOf(t, pool, "events")); diff != "" {
				t.Error("rows were changed or moved:", diff)
			}
			run(t, pool, strings.ReplaceAll(appendOne, "public.", ""))
		})
	}
}

// rowsOf returns the rows of a table, with where each is stored.
func rowsOf(t *testing.T, pool *pgxpool.Pool, table string) []string {
	t.Helper()
	rows, _ := pool.Query(t.Context(), "select e::text || e.ctid from "+table+" e order by position")
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPartitionsAreMadeAhead appends with the service's role to a log in small partitions, and has several instances make
// partitions at once, while a reader of the log holds its locks.
func TestPartitionsAreMadeAhead(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	owner, service := open(t, owners), open(t, pgtest.ServiceURL(t, owners))
	smallPartitions(t, owner, 3)
	reader, err := owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback(t.Context()) }()
	if _, err := reader.Exec(t.Context(), "select * from events"); err != nil {
		t.Fatal(err)
	}
	for head := range int64(10) {
		var wg sync.WaitGroup
		var left [4]int64
		var errs [4]error
		for i := range left {
			wg.Go(func() { errs[i] = service.QueryRow(t.Context(), "select extend_log(3)").Scan(&left[i]) })
		}
		wg.Wait()
		// Positions 1 to 3 are in the first partition; from the first append on there is one more after that of the head.
		want := 3 * (2 + (head-1)/3)
		if head == 0 {
			want = 3
		}
		if want -= head; errors.Join(errs[:]...) != nil || left != [4]int64{want, want, want, want} {
			t.Fatalf("at head %d, %v positions are left, not %d: %v", head, left, want, errs)
		}
		run(t, service, appendOne)
	}
	var want []partition
	for first := int64(1); first < 14; first += 3 {
		want = append(want, partition{fmt.Sprintf("events_%d", first), first, first + 2})
	}
	if diff := cmp.Diff(want[:len(partitions(t, owner))], partitions(t, owner)); diff != "" {
		t.Error(diff)
	}
	if err := postgres.CheckSchema(t.Context(), service); err != nil {
		t.Error(err)
	}
}

// TestPartitionsGrantNothing makes a partition in a schema whose default privileges grant everything on new tables.
func TestPartitionsGrantNothing(t *testing.T) {
	t.Parallel()
	owners := pgtest.URL(t)
	owner, service := open(t, owners), open(t, pgtest.ServiceURL(t, owners))
	run(t, owner, "alter default privileges grant all on tables to passbook_service, public", appendOne)
	run(t, service, "select extend_log(3)")
	if role, err := postgres.RoleOf(t.Context(), service); err != nil || !role.Separate {
		t.Errorf("the service may change a partition: %+v, %v", role, err)
	}
	if _, err := service.Exec(t.Context(), "update events_10000001 set version = 1"); err == nil {
		t.Error("the service has changed a partition")
	}
}

// TestWithoutAPartitionTheDatabaseIsUnavailable fills the last partition: the position after it has no place.
func TestWithoutAPartitionTheDatabaseIsUnavailable(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	smallPartitions(t, pool, 2)
	run(t, pool, appendOne, appendOne)
	for range 2 {
		_, err := pool.Exec(t.Context(), appendOne)
		if !postgres.IsUnavailable(err) {
			t.Errorf("an append without a partition: %v", err)
		}
	}
	_, err := pool.Exec(t.Context(), "insert into events select 0, stream_id, 1, event_id, type, 1, payload, metadata, recorded_at from events limit 1")
	if err == nil {
		t.Error("position 0 was accepted")
	}
	_, err = pool.Exec(t.Context(), "insert into events_1 select position, stream_id, 0, event_id, type, 1, payload, metadata, recorded_at from events limit 1")
	if postgres.IsUnavailable(err) {
		t.Errorf("a version of 0: %v", err)
	}
	run(t, pool, "select extend_log(2)", appendOne)
}

// TestExtendLogGivesUp has it wait for a table that another session has locked: it fails after its own time limit.
func TestExtendLogGivesUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	run(t, pool, appendOne)
	var limit []string
	if err := pool.QueryRow(t.Context(), "select proconfig from pg_proc where proname = 'extend_log'").Scan(&limit); err != nil || !slices.Contains(limit, "lock_timeout=5s") {
		t.Fatalf("%v, %v", limit, err)
	}
	run(t, pool, "alter function extend_log set lock_timeout = '50ms'")
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "lock table events in share update exclusive mode"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err = pool.Exec(t.Context(), "select extend_log(3)")
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55P03" || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	run(t, pool, appendOne)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, pool, "select extend_log(3)")
}
