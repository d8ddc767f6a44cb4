package postgres_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// migrationsTo returns migrations up to a version; each fails if it runs twice.
func migrationsTo(version int) fstest.MapFS {
	files := fstest.MapFS{}
	for v := 1; v <= version; v++ {
		name := fmt.Sprintf("%05d_step.sql", v)
		files[name] = &fstest.MapFile{Data: fmt.Appendf(nil, "-- +goose Up\nCREATE TABLE step_%d (id int);\n", v)}
	}
	return files
}

func TestMigrateTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	raw := pgtest.URL(t) // migrated once already
	before, rows := version(t, raw)
	if err := postgres.Migrate(t.Context(), raw, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if after, again := version(t, raw); after != before || again != rows {
		t.Errorf("version %d with %d rows became %d with %d", before, rows, after, again)
	}
}

func TestSeveralInstancesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = postgres.MigrateFiles(t.Context(), raw, migrationsTo(20), slog.New(slog.DiscardHandler))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got, rows := version(t, raw); got != 20 || rows != 21 {
		t.Errorf("version %d with %d rows, want 20 with 21", got, rows)
	}
}

func TestMigrateRefusesANewerDatabase(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	if err := postgres.MigrateFiles(t.Context(), raw, migrationsTo(7), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	err := postgres.MigrateFiles(t.Context(), raw, migrationsTo(5), slog.New(slog.DiscardHandler))
	if !errors.Is(err, postgres.ErrNewerDatabase) {
		t.Fatalf("got %v, want ErrNewerDatabase", err)
	}
	var newer *postgres.NewerDatabaseError
	if !errors.As(err, &newer) || newer.Database != 7 || newer.Binary != 5 {
		t.Errorf("got %+v", newer)
	}
	if want := "database is at version 7, this binary knows up to 5: run a newer passbook"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
	if postgres.IsUnavailable(err) {
		t.Error("the error means that waiting helps, which it does not")
	}
}

func TestFailedMigrationLeavesTheOnesBeforeIt(t *testing.T) {
	t.Parallel()
	raw := empty(t)
	files := migrationsTo(3)
	files["00003_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE half (id int);\nSELECT 1/0;\n")}
	if err := postgres.MigrateFiles(t.Context(), raw, files, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a broken migration was applied")
	}
	if got, _ := version(t, raw); got != 2 {
		t.Errorf("version %d, want 2", got)
	}
	if err := postgres.MigrateFiles(t.Context(), raw, migrationsTo(3), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("once repaired: %v", err)
	}
}

// empty returns the URL of a schema without migrations, in a database of the test's own.
func empty(t *testing.T) string {
	t.Helper()
	pool := pgtest.New(t)
	if _, err := pool.Exec(t.Context(), "CREATE SCHEMA fresh"); err != nil {
		t.Fatal(err)
	}
	return with(t, pool.Config().ConnString(), "search_path", "fresh")
}
