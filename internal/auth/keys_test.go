package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/auth"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// eventually waits until the condition holds, for half a minute at most.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("timed out waiting for the condition")
		}
	}
}

func keysOf(t testing.TB, databases ...*pgxpool.Pool) *auth.Keys {
	t.Helper()
	k, err := auth.NewKeys(auth.KeysConfig{
		Databases: databases, Unavailable: postgres.IsUnavailable, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// run runs the keys until the test ends.
func run(t *testing.T, k *auth.Keys) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = k.Run(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })
}

func create(t *testing.T, pool *pgxpool.Pool, name string, scopes auth.Scopes) (auth.Key, string) {
	t.Helper()
	key, text, err := auth.NewStore(pool).Create(t.Context(), name, scopes)
	if err != nil {
		t.Fatal(err)
	}
	return key, text
}

func TestKeyAuthenticates(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	key, text := create(t, pool, "Ünal's shop", auth.AccountsRead|auth.ProjectionsAdmin)
	other, otherText := create(t, pool, "other", auth.EventsRead)
	k := keysOf(t, pool)
	if !k.NeedsDatabase(text) || k.NeedsDatabase("secret") {
		t.Error("a new key does not query the database, or a text that is not a key does")
	}
	for range 2 { // from the database, and from memory
		caller, err := k.Authenticate(t.Context(), text)
		if err != nil || caller.ID != "key:"+key.ID || caller.Actor != "key:"+key.ID+" Ünal's shop" ||
			caller.Scopes != auth.AccountsRead|auth.ProjectionsAdmin {
			t.Errorf("%+v %v", caller, err)
		}
	}
	if k.NeedsDatabase(text) {
		t.Error("a key in use queries the database")
	}
	secret := text[len(text)-52:]
	for name, bad := range map[string]string{
		"empty": "", "of another form": "secret", "another's secret": "pbk_" + key.ID + "_" + otherText[len(otherText)-52:],
		"another's id": "pbk_" + other.ID + "_" + secret, "unknown id": "pbk_aaaaaaaaaaaaaaaa_" + secret,
		"shorter": text[:len(text)-1], "longer": text + "a", "upper case": strings.ToUpper(text), "the id alone": key.ID,
		"changed": text[:len(text)-1] + string('a'+(text[len(text)-1]-'a'+1)%2), "no id": "pbk_" + strings.Repeat("'", 16) + "_" + secret,
	} {
		for range 2 {
			if caller, err := k.Authenticate(t.Context(), bad); !errors.Is(err, auth.ErrBadCredential) {
				t.Errorf("%s: %+v %v", name, caller, err)
			}
		}
	}
}

func TestKeysAreKeptAsHashes(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, text := create(t, pool, "shop", auth.AccountsRead)
	var row string
	if err := pool.QueryRow(t.Context(), "SELECT api_keys::text || encode(hash, 'escape') FROM api_keys").Scan(&row); err != nil {
		t.Fatal(err)
	}
	if secret := text[len(text)-52:]; strings.Contains(row, secret) || strings.Contains(row, secret[:26]) {
		t.Errorf("the secret %s is in %s", secret, row)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := auth.NewStore(pool)
	for _, name := range []string{"", " shop", "shop\n", "a\x00b", "a\xff", strings.Repeat("x", 101)} {
		if _, _, err := store.Create(t.Context(), name, auth.EventsRead); !errors.Is(err, auth.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, _, err := store.Create(t.Context(), "shop", 0); !errors.Is(err, auth.ErrNoScopes) {
		t.Errorf("no scopes: %v", err)
	}
	first, _ := create(t, pool, "shop", auth.EventsRead)
	if _, _, err := store.Create(t.Context(), "shop", auth.EventsRead); !errors.Is(err, auth.ErrNameTaken) {
		t.Errorf("the same name: %v", err)
	}
	// A name that equals another key's id does not revoke that key.
	decoy, _ := create(t, pool, first.ID, auth.EventsRead)
	if got, err := store.Revoke(t.Context(), first.ID); err != nil || got.ID != first.ID || got.RevokedAt == nil {
		t.Errorf("by id: %+v %v", got, err)
	}
	second, _ := create(t, pool, "shop", auth.EventsRead|auth.MetricsRead) // the name is free again
	if got, err := store.Revoke(t.Context(), "shop"); err != nil || got.ID != second.ID {
		t.Errorf("by name: %+v %v", got, err)
	}
	for _, name := range []string{"shop", second.ID, "nobody", ""} {
		if _, err := store.Revoke(t.Context(), name); !errors.Is(err, auth.ErrUnknownKey) {
			t.Errorf("%q: %v", name, err)
		}
	}
	all, err := store.List(t.Context())
	if err != nil || len(all) != 3 || all[0].ID != first.ID || all[1].ID != decoy.ID || all[1].RevokedAt != nil ||
		strings.Join(all[2].Scopes, " ") != "events:read metrics:read" || all[2].LastUsedAt != nil {
		t.Errorf("%+v %v", all, err)
	}
	if _, err := pool.Exec(t.Context(), "DROP TABLE api_keys"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.List(t.Context()); !errors.Is(err, auth.ErrNoSchema) {
		t.Errorf("without a schema: %v", err)
	}
}

// TestRevokedEverywhere revokes a key that two instances have just accepted, and that a third has not used recently.
func TestRevokedEverywhere(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	key, text := create(t, pool, "shop", auth.AccountsRead)
	first, second, idle := keysOf(t, pool), keysOf(t, pool), keysOf(t, pool)
	run(t, first)
	run(t, second)
	for _, k := range []*auth.Keys{first, second, idle} {
		if _, err := k.Authenticate(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := auth.NewStore(pool).Revoke(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*auth.Keys{first, second, idle} { // nothing runs idle's refresh
		eventually(t, func() bool {
			_, err := k.Authenticate(t.Context(), text)
			return errors.Is(err, auth.ErrBadCredential)
		})
	}
}

func TestScopesChange(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, text := create(t, pool, "shop", auth.AccountsRead)
	k := keysOf(t, pool)
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE api_keys SET scopes = '{events:read,of:tomorrow}'"); err != nil {
		t.Fatal(err)
	}
	k.RunOnce(t.Context())
	if caller, err := k.Authenticate(t.Context(), text); err != nil || caller.Scopes != auth.EventsRead {
		t.Errorf("%+v %v", caller, err)
	}
}

// counter counts statements.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestUsedKeysCostNoStatements(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	statements := new(counter)
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithTracer(statements))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	key, text := create(t, pool, "shop", auth.AccountsRead)
	k := keysOf(t, pool)
	statements.n.Store(0)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				if _, err := k.Authenticate(t.Context(), text); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	// One when the key is first seen, and one more each time it has not been read for a few seconds: Run is not running.
	if n := statements.n.Load(); n > 50 {
		t.Errorf("8000 requests made %d statements", n)
	}
	used := func() *time.Time {
		all, err := auth.NewStore(pool).List(t.Context())
		if err != nil || len(all) != 1 || all[0].ID != key.ID {
			t.Fatalf("%+v %v", all, err)
		}
		return all[0].LastUsedAt
	}
	k.RunOnce(t.Context())
	first := used()
	if first == nil {
		t.Fatal("the last use is not written")
	}
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	k.RunOnce(t.Context())
	if again := used(); !again.Equal(*first) {
		t.Errorf("written again within a minute: %v, %v", first, again)
	}
}

// TestUnavailableDatabase checks that a key that cannot be read is neither accepted nor refused, and that a replica is queried
// while the primary is unavailable.
func TestUnavailableDatabase(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, text := create(t, pool, "shop", auth.AccountsRead)
	down, err := postgres.NewPool(t.Context(), "postgres://passbook:hunter2@127.0.0.1:1/none?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(down.Close)
	_, err = keysOf(t, down).Authenticate(t.Context(), text)
	if !postgres.IsUnavailable(err) || errors.Is(err, auth.ErrBadCredential) {
		t.Errorf("unavailable: %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), text[len(text)-52:]) {
		t.Errorf("the error has a secret: %v", err)
	}
	k := keysOf(t, down, pool)
	if _, err := k.Authenticate(t.Context(), text); err != nil {
		t.Errorf("with a replica: %v", err)
	}
	k.RunOnce(t.Context()) // writing the last use fails, which does no harm
	if _, err := k.Authenticate(t.Context(), strings.Replace(text, "pbk_", "pbk_a", 1)[:len(text)]); !errors.Is(err, auth.ErrBadCredential) {
		t.Errorf("a bad key at a replica: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keysOf(t, down).Authenticate(gone, text); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has gone: %v", err)
	}
	starting, err := auth.NewKeys(auth.KeysConfig{
		Databases: []*pgxpool.Pool{pool}, Unavailable: postgres.IsUnavailable, Ready: func() bool { return false }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := starting.Authenticate(t.Context(), text); !errors.Is(err, auth.ErrNotReady) {
		t.Errorf("starting: %v", err)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, name := range auth.ScopeNames() {
		scope, ok := auth.ParseScope(name)
		if !ok || scope.String() != name || !scope.Has(scope) || auth.Scopes(0).Has(scope) {
			t.Errorf("%s: %v", name, scope)
		}
		if got := scope.Has(auth.ProjectionsRead); got != strings.HasPrefix(name, "projections:") {
			t.Errorf("%s allows projections:read: %v", name, got)
		}
	}
	if _, ok := auth.ParseScope("projections"); ok {
		t.Error("half a name is a scope")
	}
}
