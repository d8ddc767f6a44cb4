package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"

	"passbook/migrations"
)

// expectedSchema is the schema that the migrations make, as readSchema describes it: one line per table, column, constraint
// and so on. After a change to a migration: go test ./internal/postgres -run TestExpectedSchema -update
//
//go:embed schema.txt
var expectedSchema string

// The catalog's description of all tables, views and functions in the first schema of the search path. It omits the
// definitions of views, which PostgreSQL 16 writes differently from 15, and NOT NULL constraints, which PostgreSQL 18 names;
// the columns say the same. Of the partitions of the log it has only what is wrong.
const readSchema = `WITH t AS (
  SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, quote_ident(n.nspname) || '.' AS prefix
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.relname <> '` + versionTable + `')
SELECT coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), '') FROM (
  SELECT relname || ': ' || CASE relpersistence WHEN 'u' THEN 'unlogged ' ELSE '' END || CASE relkind WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table' ELSE 'table' END ||
         CASE WHEN relrowsecurity THEN ' with row security' ELSE '' END AS line
    FROM t
  UNION ALL
  SELECT relname || ': column ' || attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END ||
         coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') || attidentity::text || attgenerated::text
    FROM t JOIN pg_attribute a ON attrelid = t.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
  UNION ALL
  SELECT relname || ': constraint ' || conname || ' ' || pg_get_constraintdef(k.oid) FROM t JOIN pg_constraint k ON conrelid = t.oid WHERE contype <> 'n'
  UNION ALL
  SELECT relname || ': index ' || replace(pg_get_indexdef(indexrelid), prefix, '') || CASE WHEN indisvalid THEN '' ELSE ' invalid' END
    FROM t JOIN pg_index ON indrelid = t.oid WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = t.oid)
  UNION ALL
  SELECT relname || ': ' || replace(pg_get_triggerdef(g.oid), prefix, '') FROM t JOIN pg_trigger g ON tgrelid = t.oid WHERE NOT tgisinternal
  UNION ALL
  SELECT relname || ': rule ' || rulename FROM t JOIN pg_rewrite ON ev_class = t.oid
  UNION ALL
  SELECT 'events: partition ' || relid::regclass || ' without unique (stream_id, version)' FROM pg_partition_tree(to_regclass('events')) AS p
   WHERE isleaf AND NOT EXISTS (SELECT FROM pg_index i WHERE indrelid = relid AND indisunique AND indisvalid AND indpred IS NULL
         AND (SELECT array_agg(attname ORDER BY n) FROM unnest(indkey::int2[]) WITH ORDINALITY AS k(num, n)
                JOIN pg_attribute a ON a.attrelid = relid AND a.attnum = num) = '{stream_id,version}')
  UNION ALL
  SELECT 'events: unlogged partition ' || relid::regclass FROM pg_partition_tree(to_regclass('events'))
    JOIN pg_class ON oid = relid WHERE relpersistence = 'u'
  UNION ALL
  SELECT proname || '(): function (' || pg_get_function_arguments(p.oid) || ') ' || lanname || ' ' || provolatile::text || ' ' || md5(prosrc)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang WHERE n.nspname = current_schema()
) AS lines`

// SchemaError means that a database has the version that the binary expects, but not the schema of that version: a
// migration was edited after it ran, or the schema was changed by hand.
type SchemaError struct {
	// Differences are sentences such as "events: column type text not null is missing".
	Differences []string
}

func (e *SchemaError) Error() string {
	const shown = 5
	text := strings.Join(e.Differences[:min(shown, len(e.Differences))], "; ")
	if more := len(e.Differences) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return "the schema of the database is not what this binary expects: " + text
}

// newest returns the version of this binary's last migration.
func newest() (version int64, err error) {
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return 0, fmt.Errorf("read the migrations: %w", err)
	}
	for _, name := range names {
		number, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("read the migrations: %w", err)
		}
		version = max(version, number)
	}
	return version, nil
}

// CheckSchema fails with a *SchemaError if the tables and functions in the database differ from those that the migrations
// make. An administrator may add indexes, and tables and functions with other names. It does not check a schema that a newer
// binary has migrated: this binary still works with it.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	var version int64
	err := pool.QueryRow(ctx, selectVersion).Scan(&version)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "42P01" {
		return &SchemaError{[]string{versionTable + " is missing; start the server on it once, or run server migrate"}}
	}
	if err != nil {
		return fmt.Errorf("read the version of the database: %w", err)
	}
	if known, err := newest(); err != nil || version > known {
		return err
	}
	return checkSchema(pool.QueryRow(ctx, readSchema))
}

func checkSchema(row interface{ Scan(dest ...any) error }) error {
	var text string
	if err := row.Scan(&text); err != nil {
		return fmt.Errorf("read the schema of the database: %w", err)
	}
	if differences := compareSchema(text, expectedSchema); len(differences) > 0 {
		return &SchemaError{differences}
	}
	return nil
}

func compareSchema(has, want string) (differences []string) {
	found, expected := strings.Split(strings.TrimSpace(has), "\n"), strings.Split(strings.TrimSpace(want), "\n")
	ours := make(map[string]bool)
	for _, line := range expected {
		name, _, _ := strings.Cut(line, ":")
		ours[name] = true
		if !slices.Contains(found, line) {
			differences = append(differences, line+" is missing")
		}
	}
	for _, line := range found {
		name, what, _ := strings.Cut(line, ": ")
		if ours[name] && !strings.HasPrefix(what, "index CREATE INDEX ") && !slices.Contains(expected, line) {
			differences = append(differences, line+" should not be there")
		}
	}
	return differences
}
