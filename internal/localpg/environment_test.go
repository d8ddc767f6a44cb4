package localpg_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/localpg"
)

// TestClientVariablesAreIgnored sets the variables that libpq and the driver read, as for another database, and starts,
// connects and attaches.
func TestClientVariablesAreIgnored(t *testing.T) { //nolint:paralleltest // it sets variables
	for name, value := range map[string]string{
		"PGHOST": "db.example.com", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "other", "PGUSER": "other", "PGPASSWORD": "secret",
		"PGPASSFILE": "/nonexistent", "PGSERVICE": "other", "PGSERVICEFILE": "/nonexistent", "PGOPTIONS": "-c search_path=app",
		"PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "SQL, DMY", "PGCLIENTENCODING": "LATIN1", "PGAPPNAME": "other", "PGDATA": "/nonexistent",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent", "PGSSLCERTMODE": "", "PGREQUIREAUTH": "scram-sha-256",
		"PGTARGETSESSIONATTRS": "standby", "PGCONNECT_TIMEOUT": "nonsense", "PGCHANNELBINDING": "require", "PGMAXPROTOCOLVERSION": "9.9",
	} {
		t.Setenv(name, value)
	}
	dir := dataDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.Options{DataDir: dir, BinDir: os.Getenv("PG_BIN"), Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	attached, err := localpg.Attach(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{server.URL(), server.ServiceURL(), attached} {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		var path, zone string
		if err := conn.QueryRow(ctx, "select current_setting('search_path'), current_setting('timezone')").Scan(&path, &zone); err != nil {
			t.Error(err)
		}
		if path != `"$user", public` || zone != "UTC" {
			t.Errorf("%s: search_path %s, timezone %s", url, path, zone)
		}
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}
