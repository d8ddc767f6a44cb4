package archive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/archive"
	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// logOf returns a pool on a log with partitions of 100 and so many events, all of which two projections have applied.
func logOf(t *testing.T, events int) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.New(t)
	exec(t, pool, "drop table events_1", "select extend_log(100)")
	grow(t, pool, 1, events)
	exec(t, pool, fmt.Sprintf(`insert into projections (id, version, generation, position)
values ('balances', 1, 1, %d), ('totals', 1, 1, %[1]d)`, events))
	return pool
}

// grow appends deposits into seven accounts, up to a position.
func grow(t *testing.T, pool *pgxpool.Pool, from, to int) {
	t.Helper()
	for first := from; first <= to; {
		last := min(to, first+99-(first-1)%100)
		exec(t, pool, fmt.Sprintf(`insert into events
select g, md5((g %% 7)::text)::uuid, 1 + (g - 1) / 7, gen_random_uuid(), case when g <= 7 then 'AccountCreated' else 'MoneyDeposited' end,
    case when g <= 7 then 2 else 1 end,
    case when g <= 7 then '{"owner": "Åse", "currency": "EUR", "overdraft_limit": 0, "decimals": 2}' else '{"amount": 1,   "currency": "EUR"}' end::jsonb,
    '{}', timestamptz '2026-01-01Z' + g * interval '1 microsecond' from generate_series(%d, %d) g`, first, last), "select extend_log(100)")
		first = last + 1
	}
}

func exec(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, one := range statements {
		if _, err := pool.Exec(t.Context(), one); err != nil {
			t.Fatalf("%s: %v", one, err)
		}
	}
}

func quiet(string, archive.Partition, int64) {}

func positions(written []archive.Manifest) (all [][2]int64) {
	for _, m := range written {
		all = append(all, [2]int64{m.FirstPosition, m.LastPosition})
	}
	return all
}

// TestExportWritesClosedPartitions exports a log, goes on where it was interrupted, and exports what was closed since.
func TestExportWritesClosedPartitions(t *testing.T) {
	t.Parallel()
	pool, dir := logOf(t, 450), t.TempDir()
	exec(t, pool, "update projections set position = 399 where id = 'totals'")
	ctx, cancel := context.WithCancel(t.Context())
	written, err := archive.Export(ctx, pool, dir, func(_ string, p archive.Partition, done int64) {
		if p.First == 201 && done == 50 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || !slices.Equal(positions(written), [][2]int64{{1, 100}, {101, 200}}) {
		t.Fatalf("interrupted: %v, %v", positions(written), err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".events-left-over"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		before string
		want   [][2]int64
	}{
		{"select 1", [][2]int64{{201, 300}}},
		{"select 1", nil},
		{"update projections set position = 450", [][2]int64{{301, 400}}},
	} {
		exec(t, pool, step.before)
		if written, err = archive.Export(t.Context(), pool, dir, quiet); err != nil || !slices.Equal(positions(written), step.want) {
			t.Fatalf("%s: %v, %v", step.before, positions(written), err)
		}
	}
	all, err := archive.Manifests(dir)
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	next := int64(1)
	for _, m := range all {
		if err := m.CheckRows(dir, func(r archive.Row) error { return sameRow(t, pool, &next, r) }); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// sameRow compares a row of a file with the table, as text.
func sameRow(t *testing.T, pool *pgxpool.Pool, next *int64, r archive.Row) error {
	t.Helper()
	var stored string
	err := pool.QueryRow(t.Context(), `select concat_ws('|', position, stream_id, version, event_id, type, schema_version, payload, metadata,
(extract(epoch from recorded_at) * 1000000)::bigint) from events where position = $1`, *next).Scan(&stored)
	*next++
	read := strings.Join([]string{
		fmt.Sprint(r.Position), r.StreamID.String(), fmt.Sprint(r.Version), r.EventID.String(), r.Type, fmt.Sprint(r.SchemaVersion), r.Payload, r.Metadata,
		fmt.Sprint(r.RecordedAt),
	}, "|")
	if err == nil && read != stored {
		err = fmt.Errorf("%s is not %s", read, stored)
	}
	return err
}

// TestExportRefusesAnotherLog exports into the directory of another log, and into one that a process works in.
func TestExportRefusesAnotherLog(t *testing.T) {
	t.Parallel()
	pool, dir := logOf(t, 150), t.TempDir()
	_, err := archive.Export(t.Context(), pool, dir, func(_ string, _ archive.Partition, done int64) {
		if done == 1 {
			if _, err := archive.Export(t.Context(), pool, dir, quiet); err == nil {
				t.Error("two exports at once")
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Export(t.Context(), logOf(t, 150), dir, quiet); !errors.Is(err, archive.ErrOtherLog) {
		t.Errorf("another log: %v", err)
	}
	exec(t, pool, "delete from events where position = 77")
	if _, err := archive.Export(t.Context(), pool, t.TempDir(), quiet); err == nil || !strings.Contains(err.Error(), "position 78 follows position 76") {
		t.Errorf("a gap: %v", err)
	}
	if _, err := archive.Export(t.Context(), pool, filepath.Join(dir, uuid.NewString()), quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}
