package projector_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience is how long a condition is waited for. It is long, since only a test that fails waits so long.
const patience = time.Minute

// failer is what testing.T and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// eventually waits until a condition holds.
func eventually(t failer, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// receive waits for what a channel sends.
func receive(t *testing.T, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("not within %s: nothing is received", patience)
	}
}

// fixture is a database of its own, with a log and any number of engines.
type fixture struct {
	url  string
	pool *pgxpool.Pool
	log  *eventstore.Store
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	url := pgtest.URL(t)
	f := &fixture{url: url, pool: newPool(t, url)}
	f.log = eventstore.New(f.pool)
	return f
}

func newPool(t *testing.T, url string, options ...postgres.Option) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func decode(eventType string, schema int, payload []byte) (any, error) {
	return eventjson.Decode(eventType, schema, payload)
}

// config is that of an engine which polls fast and shares the fixture's pool.
func (f *fixture) config(instance string) projector.Config {
	return projector.Config{
		Pool: f.pool, Log: f.log, Decode: decode, Transient: postgres.IsUnavailable,
		Instance: instance, Poll: 5 * time.Millisecond, Lease: 2 * time.Second,
	}
}

func newEngine(t failer, cfg projector.Config, projections ...*projector.Projection) *projector.Engine {
	t.Helper()
	if len(projections) == 0 {
		projections = []*projector.Projection{readmodel.Balances()}
	}
	e, err := projector.New(cfg, projections...)
	if err != nil {
		t.Fatalf("engine: %v", err)
	}
	return e
}

// start runs an engine until the returned function is called, or the test ends.
func start(t *testing.T, e *projector.Engine) (stop func()) {
	t.Helper()
	stop = launch(e)
	t.Cleanup(stop)
	return stop
}

func launch(e *projector.Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = e.Run(ctx) })
	return func() { cancel(); running.Wait() }
}

func status(t failer, e *projector.Engine) projector.Status {
	t.Helper()
	st, err := e.Projection(context.Background(), "balances")
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return st
}

// applied waits until the whole log is applied, and checks the read model.
func (f *fixture) applied(t failer, e *projector.Engine) projector.Status {
	t.Helper()
	var st projector.Status
	eventually(t, "the log is applied", func() bool {
		st = status(t, e)
		return st.Lag == 0 && st.State == "running"
	})
	f.checkFold(t)
	return st
}

// differencesSQL compares the live rows with a fold, by the database, of the events up to the checkpoint; all in
// one snapshot, but for those that wait for parked accounts, which are counted. It shares nothing with the handlers.
const differencesSQL = `
with p as (select generation, position from projections where id = 'balances'),
parked as (
    select f.stream_id, f.position, f.waiting from projection_failures f, p
    where f.projection = 'balances' and f.generation = p.generation and f.parked),
signed as (
    select e.*, case when type in ('MoneyDeposited', 'TransferReceived') then (payload->>'amount')::numeric else 0 end as come,
           case when type in ('MoneyWithdrawn', 'TransferSent') then (payload->>'amount')::numeric else 0 end as gone
    from events e, p where e.position <= p.position and not exists (
        select from parked f where f.stream_id = e.stream_id and f.position <= e.position)),
folded as (
    select stream_id, max(payload->>'owner') filter (where type = 'AccountCreated'),
           max(payload->>'currency') filter (where type = 'AccountCreated'), sum(come - gone),
           max((payload->>'overdraft_limit')::bigint), sum(come), sum(gone),
           (array_agg(case type when 'AccountSuspended' then 'suspended' when 'AccountClosed' then 'closed' else 'active' end
                order by version desc) filter (where type like 'Account%'))[1],
           max(version), max(position), min(position), min(recorded_at), max(recorded_at),
           max(recorded_at) filter (where type = 'AccountClosed')
    from signed group by stream_id),
shown as (
    select account_id, owner, currency, balance::numeric, overdraft_limit, deposited, withdrawn, status, version,
           b.position, opened_position, opened_at, updated_at, closed_at
    from balances b, p where b.generation = p.generation)
select (select count(*) from (table shown except table folded) as too_much)
     + (select count(*) from (table folded except table shown) as missing)
     + (select count(*) from parked f, p where f.waiting <> (
            select count(*) from events e where e.stream_id = f.stream_id and e.position between f.position and p.position)),
       coalesce((select position from p), 0)`

// checkFold asserts that the live rows are exactly the fold of the events 1..checkpoint without those that are parked,
// that no parked event is missing, and returns the checkpoint.
func (f *fixture) checkFold(t failer) int64 {
	t.Helper()
	var differences, position int64
	if err := f.pool.QueryRow(context.Background(), differencesSQL).Scan(&differences, &position); err != nil {
		t.Fatalf("comparing the read model with the log: %v", err)
	}
	if differences != 0 {
		t.Fatalf("at position %d, %d rows differ from the fold of the log", position, differences)
	}
	return position
}

func (f *fixture) exec(t failer, sql string, args ...any) {
	t.Helper()
	if _, err := f.pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// waits waits until a statement that contains a text waits for a lock.
func (f *fixture) waits(t failer, text string) {
	t.Helper()
	eventually(t, "it waits for a lock: "+text, func() bool {
		var found bool
		err := f.pool.QueryRow(context.Background(), `select exists (select from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and position($1 in query) > 0)`, text).Scan(&found)
		return err == nil && found
	})
}

// counter counts the statements that contain a text.
type counter struct {
	text string
	n    atomic.Int64
}

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, c.text) {
		c.n.Add(1)
	}
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// writer appends valid histories of a few accounts, and remembers what they add up to.
type writer struct {
	log  *eventstore.Store
	rand *rand.Rand
	ids  []uuid.UUID

	mu      sync.Mutex
	history map[uuid.UUID][]moment // by version, from 1
	states  map[uuid.UUID]account.State
}

// moment is an account after one of its events; position is 0 until the append has been acknowledged.
type moment struct {
	state    account.State
	position int64
}

func newWriter(log *eventstore.Store, seed uint64, accounts int) *writer {
	w := &writer{
		log: log, rand: rand.New(rand.NewPCG(seed, 1)),
		history: make(map[uuid.UUID][]moment), states: make(map[uuid.UUID]account.State),
	}
	for range accounts {
		w.ids = append(w.ids, uuid.New())
	}
	return w
}

// next is an event that may follow on the account's state.
func (w *writer) next(s account.State) account.Event {
	amount := func(limit int64) money.Amount { return money.New(1+w.rand.Int64N(limit), s.Currency) }
	switch n := w.rand.IntN(10); {
	case !s.Exists():
		eur, _ := money.LookupCurrency("EUR")
		return account.AccountCreated{Owner: "owner " + string(rune('a'+w.rand.IntN(26))), Currency: eur, OverdraftLimit: 50}
	case s.Status == account.Suspended:
		return account.AccountReactivated{}
	case n == 0:
		return account.AccountSuspended{Reason: "asked"}
	case n < 4 && s.Available() > 0:
		return account.MoneyWithdrawn{Amount: amount(s.Available())}
	case n == 4 && s.Available() > 0:
		return account.TransferSent{TransferID: uuid.New(), To: w.ids[0], Amount: amount(s.Available())}
	case n == 5:
		return account.TransferReceived{TransferID: uuid.New(), From: w.ids[0], Amount: amount(1000)}
	default:
		return account.MoneyDeposited{Amount: amount(1000)}
	}
}

// append appends n events, in one batch, to accounts chosen at random; those not opened yet come first.
func (w *writer) append(t failer, n int) {
	t.Helper()
	events := make([]eventstore.NewEvent, n)
	type added struct {
		id      uuid.UUID
		version int
	}
	order := make([]added, n)
	w.mu.Lock()
	for i := range events {
		id := w.ids[w.rand.IntN(len(w.ids))]
		if len(w.states) < len(w.ids) {
			id = w.ids[len(w.states)]
		}
		e := w.next(w.states[id])
		state, err := account.Evolve(w.states[id], e)
		if err != nil {
			t.Fatalf("writer: %v", err)
		}
		w.states[id] = state
		w.history[id] = append(w.history[id], moment{state: state})
		order[i] = added{id, len(w.history[id])}
		events[i] = eventOf(t, id, int64(order[i].version), e)
	}
	w.mu.Unlock()
	first, _ := pgtest.Append(t, w.log, events...)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range order {
		w.history[order[i].id][order[i].version-1].position = first + int64(i)
	}
}

func eventOf(t failer, id uuid.UUID, version int64, e account.Event) eventstore.NewEvent {
	t.Helper()
	encoded, err := eventjson.Encode(e)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return eventstore.NewEvent{
		StreamID: id, Version: version, EventID: pgtest.EventID(id, version),
		Type: encoded.Type, SchemaVersion: encoded.SchemaVersion, Payload: encoded.Payload,
	}
}

// mystery appends an event of a type that nothing knows, and returns its stream.
func (f *fixture) mystery(t failer) uuid.UUID {
	t.Helper()
	id := uuid.New()
	pgtest.Append(t, f.log, eventstore.NewEvent{
		StreamID: id, Version: 1, EventID: uuid.New(), Type: "Mystery", SchemaVersion: 1, Payload: []byte(`{}`),
	})
	return id
}

// logbook is a logger whose lines can be waited for.
type logbook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.lines.String(), text)
}

// gatedLog is the log through a gate: what it reads is handed on only while the gate is open.
type gatedLog struct {
	*eventstore.Store
	gate chan struct{} // closed when open
	held chan struct{} // receives once for each read that was held
}

func newGatedLog(s *eventstore.Store) *gatedLog {
	return &gatedLog{Store: s, gate: make(chan struct{}), held: make(chan struct{}, 100)}
}

func (g *gatedLog) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	events, err := g.Store.ReadAfter(ctx, after, limit)
	select {
	case <-g.gate:
	default:
		g.held <- struct{}{}
		select {
		case <-g.gate:
		case <-ctx.Done():
		}
	}
	return events, err
}
