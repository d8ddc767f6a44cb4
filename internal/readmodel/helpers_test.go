package readmodel_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

var (
	eur, _ = money.LookupCurrency("EUR")
	first  = uuid.MustParse("00000000-0000-4000-8000-000000000001")
	second = uuid.MustParse("00000000-0000-4000-8000-000000000002")
	third  = uuid.MustParse("80000000-0000-4000-8000-000000000004")
	fourth = uuid.MustParse("f0000000-0000-4000-8000-000000000003")
)

func cents(n int64) money.Amount { return money.New(n, eur) }

// accountEvent is an event of an account; appendAll sets its version.
type accountEvent struct {
	id    uuid.UUID
	event account.Event
}

// appendAll appends events to an empty log, and returns when they were recorded.
func appendAll(t failer, pool *pgxpool.Pool, all []accountEvent) time.Time {
	t.Helper()
	versions := make(map[uuid.UUID]int64)
	events := make([]eventstore.NewEvent, 0, len(all))
	for _, h := range all {
		e, err := eventjson.Encode(h.event)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		versions[h.id]++
		events = append(events, eventstore.NewEvent{
			StreamID: h.id, Version: versions[h.id],
			EventID: pgtest.EventID(h.id, versions[h.id]), Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload,
		})
	}
	_, recordedAt := pgtest.Append(t, eventstore.New(pool), events...)
	return recordedAt
}

// project applies the whole log to a projection in batches of a size, until all events are applied or parked, or the
// projection halts. It calls see, if given, with each position that was reached.
func project(t failer, pool *pgxpool.Pool, p *projector.Projection, batch int, see ...func(position int64)) projector.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := pool.Exec(ctx, `truncate projections, projection_replays, projection_failures, `+strings.Join(p.Tables, ", ")); err != nil {
		t.Fatalf("truncate: %v", err)
	}
	engine, err := projector.New(projector.Config{
		Pool: pool, Log: eventstore.New(pool), Instance: "test", Batch: batch, ReadBatch: 3, Poll: time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
		Applied: func(_ string, position int64) {
			for _, f := range see {
				f(position)
			}
		},
	}, p)
	if err != nil {
		t.Fatalf("engine: %v", err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { _ = engine.Run(running); close(ended) }()
	defer func() { stop(); <-ended }()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		st, err := engine.Projection(ctx, p.ID)
		if err != nil {
			t.Fatalf("status: %v", err)
		}
		if st.Lag == 0 || st.State == "halted" {
			return st
		}
		<-ticker.C
	}
}

// refused returns the event at which a projection has halted or parked an account, and the error.
func refused(t failer, pool *pgxpool.Pool, st projector.Status) (position int64, why string) {
	t.Helper()
	if st.State == "halted" {
		return st.ErrorPosition, st.Error
	}
	err := pool.QueryRow(context.Background(), `select position, error from projection_failures where projection = $1 and parked`, st.ID).
		Scan(&position, &why)
	if err != nil {
		t.Fatalf("nothing was refused: %+v, %v", st, err)
	}
	return position, why
}

// history draws events of four accounts in two currencies that the domain allows; transfers have two sides. states are the
// accounts after them, by Evolve.
func history(t *rapid.T, most int) (all []accountEvent, states map[uuid.UUID]account.State) {
	jpy, _ := money.LookupCurrency("JPY")
	ids := []uuid.UUID{first, second, fourth, third}
	currencies := map[uuid.UUID]money.Currency{ids[0]: eur, ids[1]: jpy, ids[2]: eur, ids[3]: jpy}
	states = make(map[uuid.UUID]account.State)
	for range rapid.IntRange(1, most).Draw(t, "steps") {
		id := rapid.SampledFrom(ids).Draw(t, "account")
		for _, h := range anyStep(t, id, currencies, states) {
			next, err := account.Evolve(states[h.id], h.event)
			if err != nil {
				break // without the other side of the transfer: the side that may fail comes first
			}
			states[h.id] = next
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return history(t, most)
	}
	return all, states
}

// anyStep draws an event of an account, or the two of a transfer.
func anyStep(t *rapid.T, id uuid.UUID, currencies map[uuid.UUID]money.Currency, states map[uuid.UUID]account.State) []accountEvent {
	if !states[id].Exists() {
		return []accountEvent{{id, account.AccountCreated{
			Owner: rapid.SampledFrom([]string{"a", "ö|", "'; --"}).Draw(t, "owner"), Currency: currencies[id],
			OverdraftLimit: rapid.Int64Range(0, 100).Draw(t, "limit"),
		}}}
	}
	amount := money.New(rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Just(int64(1<<62))).Draw(t, "amount"), currencies[id])
	reference := rapid.SampledFrom([]string{"", "rent", "a\tb\\N\n\"ü"}).Draw(t, "reference")
	for _, other := range slices.SortedFunc(maps.Keys(currencies), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		if other == id || currencies[other] != currencies[id] || states[other].Status != account.Active || !rapid.Bool().Draw(t, "transfer") {
			continue
		}
		if _, err := account.Evolve(states[other], account.TransferReceived{From: id, Amount: amount}); err != nil {
			continue
		}
		transfer := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "transfer id"))
		return []accountEvent{
			{id, account.TransferSent{TransferID: transfer, To: other, Amount: amount, Reference: reference}},
			{other, account.TransferReceived{TransferID: transfer, From: id, Amount: amount, Reference: reference}},
		}
	}
	return []accountEvent{{id, rapid.SampledFrom([]account.Event{
		account.MoneyDeposited{Amount: amount, Reference: reference},
		account.MoneyDeposited{Amount: amount},
		account.MoneyWithdrawn{Amount: amount, Reference: reference},
		account.AccountSuspended{Reason: reference},
		account.AccountReactivated{},
		account.AccountClosed{},
	}).Draw(t, "event")}}
}

// clearLog empties the log.
func clearLog(t failer, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), `truncate events, idempotency_keys`); err != nil {
		t.Fatalf("truncate: %v", err)
	}
}
