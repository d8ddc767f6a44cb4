package eventstore_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

// TestAnswersWaitForTheStandby has a primary whose synchronous standby is unavailable. An append that is cancelled while it waits
// is in the primary's log only: a failover would lose it, so no answer may be given from it.
func TestAnswersWaitForTheStandby(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pb-") //nolint:usetesting // t.TempDir is closed to the user PostgreSQL runs as
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.Options{
		DataDir: dir, BinDir: os.Getenv("PG_BIN"), RuntimeDir: dir,
		Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := postgres.Migrate(ctx, server.URL(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("user", "postgres")
	u.RawQuery = q.Encode()
	superuser, err := pgx.Connect(ctx, u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = superuser.Close(context.Background()) }()
	require := func(standbys string) {
		t.Helper()
		for _, sql := range []string{"alter system set synchronous_standby_names = '" + standbys + "'", "select pg_reload_conf()"} {
			if _, err := superuser.Exec(ctx, sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	pool, err := postgres.NewPool(ctx, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store := eventstore.New(pool)

	require("away")
	within := func(sql string) {
		t.Helper()
		for holds := false; !holds; {
			if err := superuser.QueryRow(ctx, sql).Scan(&holds); err != nil {
				t.Fatal(err)
			}
		}
	}
	within("select current_setting('synchronous_standby_names') = 'away'")
	breakOff, off := context.WithCancel(ctx)
	broken := make(chan error, 1)
	go func() {
		one := batch(happened(uuid.New(), 0, 1))
		one.Keys = []eventstore.Key{{Hash: key(1), Fingerprint: key(2), Count: 1}}
		_, err := store.Append(breakOff, eventstore.Head{}, one)
		broken <- err
	}()
	within("select exists (select from pg_stat_activity where wait_event = 'SyncRep')")
	off()
	if err := <-broken; err == nil {
		t.Fatal("an append was acknowledged that no standby has")
	}
	// The server has to end the wait, as on a cancel request or a shutdown, or when an administrator ends the session.
	within("select exists (select from (select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep') c) or true")
	within("select exists (select from idempotency_keys)") // shortly after the wait

	short, cancelShort := context.WithTimeout(ctx, time.Second)
	defer cancelShort()
	if found, err := store.LookupKeys(short, [][16]byte{key(1)}); err == nil {
		t.Errorf("returned %d keys that no standby has", len(found))
	}
	if none, err := store.LookupKeys(ctx, [][16]byte{key(9)}); err != nil || len(none) != 0 {
		t.Errorf("a key that is not stored: %v, %v", none, err)
	}
	require("")
	if found, err := store.LookupKeys(ctx, [][16]byte{key(1)}); err != nil || len(found) != 1 {
		t.Errorf("without waiting for a standby: %v, %v", found, err)
	}
}
