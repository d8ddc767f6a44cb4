package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachTestHasItsOwnMigratedDatabase(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"one", "two", "three"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			var version int64
			if err := pool.QueryRow(t.Context(), "SELECT max(version_id) FROM passbook_db_version").Scan(&version); err != nil || version < 1 {
				t.Fatalf("schema version = %d, %v; want a migrated database", version, err)
			}
			// It would exist already if the database were shared.
			if _, err := pool.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDatabaseIsDroppedDespiteOpenConnections(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("user", func(t *testing.T) {
		url = pgtest.URL(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		url = pgtest.URL(t)
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("the database is still there after its test")
	}
}
