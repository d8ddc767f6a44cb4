package subject_test

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/subject"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// testbed is the database of a log, and one of keys.
type testbed struct {
	log  *pgxpool.Pool
	keys string // URL
}

func newTestbed(t testing.TB) *testbed {
	t.Helper()
	beside := pgtest.URL(t)
	u, err := url.Parse(beside)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + "_keys"
	u.Path = "/" + name
	run := func(sql string) {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, beside)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	run("create database " + name)
	b := &testbed{log: open(t, beside), keys: u.String()}
	t.Cleanup(func() { run("drop database " + name + " with (force)") })
	return b
}

func open(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func master(t testing.TB, b byte) *subject.MasterKey {
	t.Helper()
	m, err := subject.NewMasterKey(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// instance returns the keys as another instance has them, with a pool of its own.
func (b *testbed) instance(t testing.TB) (*subject.Keys, *pgxpool.Pool) {
	t.Helper()
	pool := open(t, b.keys)
	keys := subject.NewKeys(pool, master(t, 1), false)
	if err := keys.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return keys, pool
}
