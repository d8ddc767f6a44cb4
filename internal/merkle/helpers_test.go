package merkle_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"passbook/internal/eventstore"
	"passbook/internal/merkle"
	"passbook/internal/pgtest"
)

const origin = "bank.example/passbook"

// newKey returns a new key of the log as two lines, private and public.
func newKey(t testing.TB) (private, public string) {
	t.Helper()
	private, public, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func parseKeys(t testing.TB, lines ...string) merkle.Keys {
	t.Helper()
	keys, err := merkle.ParseKeys(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// testLog is a log in a database of its own, with a key.
type testLog struct {
	testing.TB
	pool            *pgxpool.Pool
	store           *eventstore.Store
	private, public string
	file            string
}

func newLog(t testing.TB, events int) *testLog {
	t.Helper()
	l := &testLog{TB: t, pool: pgtest.New(t), file: filepath.Join(t.TempDir(), "checkpoints")}
	l.store = eventstore.New(l.pool)
	l.private, l.public = newKey(t)
	l.append(events)
	return l
}

// append appends events, the streams in turn.
func (l *testLog) append(n int) {
	l.Helper()
	head, err := l.store.Last(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	const streams = 7
	events := make([]eventstore.NewEvent, n)
	for i := range events {
		at := head.Position + int64(i)
		stream := uuid.UUID{15: byte(at % streams)}
		events[i] = eventstore.NewEvent{
			StreamID: stream, Version: at/streams + 1, EventID: pgtest.EventID(stream, at/streams+1), Type: "MoneyDeposited", SchemaVersion: 1,
			Payload: fmt.Appendf(nil, `{"amount": "%d", "reference": "a\tb\n\\ ü \" %d"}`, at, at), Metadata: []byte(`{"actor": "key:ada"}`),
		}
	}
	if n > 0 {
		pgtest.Append(l, l.store, events...)
	}
}

func (l *testLog) config() merkle.Config {
	return merkle.Config{
		Pool: l.pool, Log: l.store, Keys: parseKeys(l, l.private), File: l.file, Logger: slog.New(slog.DiscardHandler),
		Every: 10 * time.Millisecond, Takeover: 50 * time.Millisecond,
	}
}

func (l *testLog) sign() {
	l.Helper()
	if err := merkle.NewSigner(l.config()).RunOnce(l.Context()); err != nil {
		l.Fatal(err)
	}
}

// signed returns the stored checkpoint, checked with the public key.
func (l *testLog) signed() (string, merkle.Checkpoint) {
	l.Helper()
	text, _, err := merkle.NewProver(l.pool).Signed(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	c, err := parseKeys(l, l.public).Open([]byte(text))
	if err != nil {
		l.Fatal(err)
	}
	return text, c
}

// exec runs statements as the owner of the tables.
func (l *testLog) exec(statements string) {
	l.Helper()
	if _, err := l.pool.Exec(context.Background(), statements); err != nil {
		l.Fatal(err)
	}
}

// save keeps a copy of the tables for restore, and drops the constraints that would refuse some changes.
func (l *testLog) save() {
	l.exec(`create schema saved; create table saved.events as table events; create table saved.log_tiles as table log_tiles;
		create table saved.log_checkpoint as table log_checkpoint;
		do $$
		declare c record;
		begin
			for c in select conrelid::regclass as of, conname as name from pg_constraint where contype in ('p', 'u', 'c') and coninhcount = 0
				and (conrelid = 'events'::regclass or conrelid in (select inhrelid from pg_inherits where inhparent = 'events'::regclass))
			loop
				execute format('alter table %s drop constraint %I', c.of, c.name);
			end loop;
		end
		$$`)
}

func (l *testLog) restore() {
	l.exec(`truncate events, log_tiles, log_checkpoint; insert into events select * from saved.events;
		insert into log_tiles select * from saved.log_tiles; insert into log_checkpoint select * from saved.log_checkpoint`)
}
