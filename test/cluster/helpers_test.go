package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/httpapi/feed"
	"passbook/internal/pgtest"
	"passbook/internal/relay"
	"passbook/internal/stream"
	"passbook/test/internal/machines"
	"passbook/test/internal/nodes"
)

// natsServer is nats-server, built by the first test that needs it.
var natsServer struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	_ = os.RemoveAll(natsServer.dir)
	os.Exit(code)
}

// bed is a database with a log, and a nats-server.
type bed struct {
	t     *testing.T
	pool  *pgxpool.Pool
	store *eventstore.Store
	node  *nodes.Node
	nc    *stream.Conn
	js    jetstream.JetStream
	head  eventstore.Head
	// options are how the bed's clients connect to the node.
	options stream.Options
}

func newBed(t *testing.T) *bed {
	t.Helper()
	return newBedWith(t, func(node *nodes.Node) stream.Options { return stream.Options{URL: node.URL} })
}

// newBedWith has configure configure the nats-server, and connects with the options that it returns.
func newBedWith(t *testing.T, configure func(*nodes.Node) stream.Options) *bed {
	t.Helper()
	natsServer.once.Do(func() {
		if natsServer.dir, natsServer.err = os.MkdirTemp("", "passbook-nats-"); natsServer.err == nil { //nolint:usetesting // outlives the test
			natsServer.path, natsServer.err = nodes.Build(context.Background(), natsServer.dir)
		}
	})
	if natsServer.err != nil {
		t.Fatal(natsServer.err)
	}
	b := &bed{t: t, pool: pgtest.New(t)}
	b.store = eventstore.New(b.pool)
	all, err := nodes.New(t.Context(), natsServer.path, t.TempDir(), machines.Local)
	if err != nil {
		t.Fatal(err)
	}
	b.node = all[0]
	b.options = configure(b.node)
	b.check(b.node.Start())
	t.Cleanup(b.node.Kill)
	b.nc = b.connect()
	b.js, err = jetstream.New(b.nc.Conn)
	b.check(err)
	b.await("NATS is up", func() bool { _, err := b.js.AccountInfo(t.Context()); return err == nil })
	return b
}

func (b *bed) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) await(what string, ready func() bool) {
	b.t.Helper()
	b.check(nodes.Await(b.t.Context(), 30*time.Second, what, ready))
}

func (b *bed) connect() *stream.Conn {
	b.t.Helper()
	nc, err := stream.Connect(b.options)
	b.check(err)
	b.t.Cleanup(nc.Close)
	return nc
}

// append appends n events to a new stream of the log.
func (b *bed) append(n int) {
	b.t.Helper()
	var batch eventstore.Batch
	account := uuid.New()
	for i := range n {
		batch.Events = append(batch.Events, eventstore.NewEvent{
			StreamID: account, Version: int64(i + 1), EventID: uuid.New(), Type: "MoneyDeposited", SchemaVersion: 1 + i%2,
			Payload:  fmt.Appendf(nil, `{"amount": %d, "currency": "EUR", "reference": "Größe \"%d\" \u2028\n"}`, 9007199254740993+int64(i), i),
			Metadata: fmt.Appendf(nil, `{"actor": "tester", "snapshot": {"v": %d}}`, i),
		})
	}
	got, err := b.store.Append(b.t.Context(), b.head, &batch)
	if err != nil || got.Moved {
		b.t.Fatalf("append: %+v, %v", got, err)
	}
	b.head = eventstore.Head{Position: b.head.Position + int64(n), EventID: batch.Events[n-1].EventID}
}

// relay starts a relay; the returned function stops it and waits.
func (b *bed) relay() (*relay.Relay, func()) {
	b.t.Helper()
	r, err := relay.New(relay.Config{
		Log: b.store, Conn: b.connect(), Stream: "PASSBOOK", Encode: encode, Logger: quiet(), Poll: 5 * time.Millisecond,
		Takeover: 200 * time.Millisecond,
	})
	b.check(err)
	return r, background(b.t, r.Run)
}

// background runs a worker until the test ends or the returned function is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("a worker ended: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func encode(e *eventstore.Event) ([]byte, error) {
	return feed.Naming{TypePrefix: "com.example."}.CloudEvent(&feed.Event{
		Position: e.Position, ID: e.EventID, Subject: e.StreamID, Version: e.Version, Type: e.Type, SchemaVersion: e.SchemaVersion,
		Data: []byte(`{"public":true}`), RecordedAt: e.RecordedAt,
	})
}

// end returns the stream's last sequence, -1 if it cannot be read.
func (b *bed) end() int64 {
	s, err := b.js.Stream(b.t.Context(), "PASSBOOK")
	if err != nil {
		return -1
	}
	return int64(s.CachedInfo().State.LastSeq)
}

func (b *bed) awaitEnd() {
	b.t.Helper()
	b.await(fmt.Sprintf("the stream reaches position %d", b.head.Position), func() bool { return b.end() == b.head.Position })
}

// rows returns the rows of a log as text.
func rows(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	var all []string
	err := pool.QueryRow(t.Context(), `select coalesce(array_agg(e::text order by position), '{}') from events e`).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
