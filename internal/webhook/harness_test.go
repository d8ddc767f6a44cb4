package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/httpapi/feed"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/webhook"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// waitLimit bounds every wait for a condition. The machine may be slow.
const waitLimit = 30 * time.Second

// logOf is the log as package feed reads it.
type logOf struct{ *eventstore.Store }

func (l logOf) Look(ctx context.Context, seen feed.Point) (feed.Point, bool, error) {
	s, err := l.Status(ctx, seen.Position, seen.ID)
	return feed.Point{Position: s.Head.Position, ID: s.Head.EventID}, s.Contains, err
}

func (l logOf) Read(ctx context.Context, after, upTo int64, _ feed.Filter, limit int) ([]feed.Event, error) {
	recorded, err := l.Select(ctx, after, upTo, eventstore.Selection{}, limit)
	if archived, ok := errors.AsType[*eventstore.ArchivedError](err); ok {
		err = &feed.ArchivedError{First: archived.First}
	}
	events := make([]feed.Event, len(recorded))
	for i := range recorded {
		e := &recorded[i]
		events[i] = feed.Event{
			Position: e.Position, ID: e.EventID, Subject: e.StreamID, Version: e.Version, Type: e.Type, SchemaVersion: e.SchemaVersion,
			Data: e.Payload, RecordedAt: e.RecordedAt,
		}
	}
	return events, err
}

// instance is an instance of the service, as far as webhooks need it.
type instance struct {
	*webhook.Service
	t        *testing.T
	pool     *pgxpool.Pool
	feed     *feed.Feed
	commands *command.Service
	stop     func() // stops it in order
}

// start runs an instance until the test ends. Its times are short, unless configure changes them.
func start(t *testing.T, url, name string, configure func(*webhook.Config)) *instance {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url, postgres.WithApplicationName(name))
	if err != nil {
		t.Fatal(err)
	}
	log := logOf{eventstore.New(pool)}
	logger := slog.New(slog.DiscardHandler)
	f := feed.New(feed.Config{Log: log, Logger: logger, Transient: postgres.IsUnavailable, Poll: 20 * time.Millisecond})
	commands, err := command.New(command.Config{Store: log.Store, Appended: func(int, time.Duration) { f.Wake() }})
	if err != nil {
		t.Fatal(err)
	}
	c := webhook.Config{
		Pool: pool, Feed: webhook.Streams(f), Log: log, Logger: logger, Instance: name, AllowPrivate: true, Version: "test",
		Lease: time.Second, FirstRetry: time.Millisecond, LongestRetry: 20 * time.Millisecond,
	}
	if configure != nil {
		configure(&c)
	}
	s, err := webhook.NewService(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	for _, run := range []func(context.Context) error{commands.Run, f.Run, s.Run} {
		group.Go(func() error { return run(ctx) })
	}
	stop := sync.OnceFunc(func() {
		cancel()
		_ = group.Wait()
		pool.Close()
	})
	t.Cleanup(stop)
	return &instance{s, t, pool, f, commands, stop}
}

func (i *instance) do(id uuid.UUID, c account.Command) int64 {
	i.t.Helper()
	r, err := i.commands.Do(i.t.Context(), command.Request{AccountID: id, Command: c})
	if err != nil {
		i.t.Fatal(err)
	}
	return r.Events[len(r.Events)-1].Position
}

func (i *instance) open() uuid.UUID {
	i.t.Helper()
	id := uuid.New()
	eur, err := money.ParseCurrency("EUR")
	if err != nil {
		i.t.Fatal(err)
	}
	i.do(id, account.Open{Owner: "Ada", Currency: eur})
	return id
}

// deposit makes n deposits, and returns the position of the last one.
func (i *instance) deposit(id uuid.UUID, n int) (position int64) {
	i.t.Helper()
	amount, err := money.ParseDecimal("1")
	if err != nil {
		i.t.Fatal(err)
	}
	for range n {
		position = i.do(id, account.Deposit{Amount: amount})
	}
	return position
}

func (i *instance) create(n webhook.New) (webhook.Webhook, string) {
	i.t.Helper()
	w, secret, err := i.CreateWebhook(i.t.Context(), n)
	if err != nil {
		i.t.Fatal(err)
	}
	return w, secret
}

func (i *instance) change(id uuid.UUID, c webhook.Change) {
	i.t.Helper()
	if _, err := i.ChangeWebhook(i.t.Context(), id, c); err != nil {
		i.t.Fatal(err)
	}
}

func (i *instance) get(id uuid.UUID) webhook.Webhook {
	i.t.Helper()
	w, err := i.Webhook(i.t.Context(), id)
	if err != nil {
		i.t.Fatal(err)
	}
	return w
}

func (i *instance) deliveries(id uuid.UUID) []webhook.Delivery {
	i.t.Helper()
	all, err := i.Deliveries(i.t.Context(), id, 0, 1000)
	if err != nil {
		i.t.Fatal(err)
	}
	return all
}

func (i *instance) exec(sql string, args ...any) {
	i.t.Helper()
	if _, err := i.pool.Exec(i.t.Context(), sql, args...); err != nil {
		i.t.Fatal(err)
	}
}

// owner is the instance that has the lease of the only subscription.
func (i *instance) owner() (owner string) {
	i.t.Helper()
	if err := i.pool.QueryRow(i.t.Context(), "select owner from webhooks").Scan(&owner); err != nil {
		i.t.Fatal(err)
	}
	return owner
}

// until waits until something holds of a subscription.
func (i *instance) until(id uuid.UUID, what string, holds func(webhook.Webhook) bool) webhook.Webhook {
	i.t.Helper()
	var w webhook.Webhook
	eventually(i.t, what, func() bool { w = i.get(id); return holds(w) })
	return w
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(waitLimit)
	for !holds() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}

// received is a request that a receiver got.
type received struct {
	header   http.Header
	body     []byte
	position int64
}

// receiver is a subscriber's server.
type receiver struct {
	t   *testing.T
	url string

	mu   sync.Mutex
	got  []received
	hook func(w http.ResponseWriter, r *received) // nil is 204
}

func receive(t *testing.T, hook func(w http.ResponseWriter, r *received)) *receiver {
	t.Helper()
	r := &receiver{t: t, hook: hook}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/hook?token=hush"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	var e struct{ Position string }
	if err := json.Unmarshal(body, &e); err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	one := received{header: request.Header.Clone(), body: body}
	one.position, _ = strconv.ParseInt(e.Position, 10, 64)
	r.mu.Lock()
	r.got = append(r.got, one)
	hook := r.hook
	r.mu.Unlock()
	if hook == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	hook(w, &one)
}

// respond changes how it responds from now on.
func (r *receiver) respond(hook func(w http.ResponseWriter, r *received)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = hook
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func (r *receiver) positions() []int64 {
	all := r.all()
	positions := make([]int64, len(all))
	for i := range all {
		positions[i] = all[i].position
	}
	return positions
}

// firsts are the positions in the order in which they arrived first.
func firsts(positions []int64) (first []int64) {
	seen := make(map[int64]bool)
	for _, p := range positions {
		if !seen[p] {
			first = append(first, p)
		}
		seen[p] = true
	}
	return first
}

// span is the positions from one to another.
func span(from, to int64) (all []int64) {
	for p := from; p <= to; p++ {
		all = append(all, p)
	}
	return all
}

func status(code int) func(http.ResponseWriter, *received) {
	return func(w http.ResponseWriter, _ *received) { w.WriteHeader(code) }
}
