package readmodel_test

import (
	"context"
	"maps"
	"math"
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

// project applies the whole log to a projection, in batches of at most a size, until all events are applied or parked, or the
// projection halts. It calls see, if given, with each checkpoint.
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

// history draws events of four accounts in two currencies that the domain allows. Transfers have both sides, captures have their
// movement, and reversals reverse earlier movements. states are the accounts after the events, by Evolve.
func history(t *rapid.T, most int) (all []accountEvent, states map[uuid.UUID]account.State) {
	h := drawn{states: make(map[uuid.UUID]account.State)}
	for range rapid.IntRange(1, most).Draw(t, "steps") {
		h.add(h.anyStep(t, rapid.SampledFrom(ids).Draw(t, "account")))
	}
	if len(h.all) == 0 {
		return history(t, most)
	}
	return h.all, h.states
}

var (
	jpy, _     = money.LookupCurrency("JPY")
	ids        = []uuid.UUID{first, second, third, fourth}
	currencies = map[uuid.UUID]money.Currency{first: eur, second: jpy, third: jpy, fourth: eur}
)

// drawn is a history while it is drawn.
type drawn struct {
	all    []accountEvent
	states map[uuid.UUID]account.State
}

// add appends the events of a step, unless the domain does not allow one of them.
func (h *drawn) add(step []accountEvent) {
	states := maps.Clone(h.states)
	for _, e := range step {
		next, err := account.Evolve(states[e.id], e.event)
		if err != nil {
			return
		}
		states[e.id] = next
	}
	h.all, h.states = append(h.all, step...), states
}

// anyStep draws the events of a command.
func (h *drawn) anyStep(t *rapid.T, id uuid.UUID) []accountEvent {
	s := h.states[id]
	owner := rapid.SampledFrom([]string{"a", "Ö|", "'; --"}).Draw(t, "owner")
	limit := rapid.Int64Range(0, 100).Draw(t, "limit")
	labels := rapid.SampledFrom([]account.Metadata{{}, {}, account.NewMetadata(map[string]string{"k": "a\tb\"ü<", "": ""})}).Draw(t, "metadata")
	if !s.Exists() {
		return []accountEvent{{id, account.AccountCreated{Owner: owner, Currency: currencies[id], OverdraftLimit: limit, Metadata: labels}}}
	}
	amount := money.New(rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Just(int64(1<<62)), rapid.Just(int64(math.MaxInt64-100))).Draw(t, "amount"), s.Currency)
	reference := rapid.SampledFrom([]string{"", "rent", "a\tb\\N\n\"ü"}).Draw(t, "reference")
	one := func(e account.Event) []accountEvent { return []accountEvent{{id, e}} }
	switch rapid.IntRange(0, 14).Draw(t, "step") {
	case 0:
		return one(account.OwnerChanged{Owner: owner})
	case 1:
		return one(account.OverdraftLimitChanged{OverdraftLimit: limit, Currency: s.Currency})
	case 2:
		return one(account.MetadataChanged{Metadata: labels})
	case 3:
		return one(account.AccountSuspended{Reason: reference})
	case 4:
		return one(account.AccountReactivated{})
	case 5:
		return one(account.AccountClosed{})
	case 6, 7:
		e := account.HoldPlaced{HoldID: anyID(t), Amount: amount, Reference: reference, Metadata: labels}
		if rapid.Bool().Draw(t, "expires") {
			e.ExpiresAt = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
		}
		return one(e)
	case 8, 9:
		if len(s.Holds) > 0 {
			return h.holdEnds(t, id, rapid.SampledFrom(s.Holds).Draw(t, "hold"), labels, reference)
		}
	case 10, 11:
		return h.reversal(t)
	case 12:
		return h.moneyOut(t, id, amount, labels, reference)
	}
	return one(account.MoneyDeposited{Amount: amount, Reference: reference, Metadata: labels})
}

// anyID draws an id that is not nil.
func anyID(t *rapid.T) uuid.UUID {
	id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	id[0] |= 1
	return id
}

// moneyOut draws a withdrawal, or the two sides of a transfer to an account of the same currency.
func (h *drawn) moneyOut(t *rapid.T, id uuid.UUID, amount money.Amount, labels account.Metadata, reference string) []accountEvent {
	for _, other := range ids {
		if other == id || currencies[other] != currencies[id] || h.states[other].Status != account.Active || !rapid.Bool().Draw(t, "transfer") {
			continue
		}
		transfer := anyID(t)
		return []accountEvent{
			{id, account.TransferSent{TransferID: transfer, To: other, Amount: amount, Reference: reference, Metadata: labels}},
			{other, account.TransferReceived{TransferID: transfer, From: id, Amount: amount, Reference: reference, Metadata: labels}},
		}
	}
	return []accountEvent{{id, account.MoneyWithdrawn{Amount: amount, Reference: reference, Metadata: labels}}}
}

// holdEnds draws the end of an open hold, with the movement of a capture.
func (h *drawn) holdEnds(t *rapid.T, id uuid.UUID, hold account.Hold, labels account.Metadata, reference string) []accountEvent {
	amount := money.New(hold.Amount, currencies[id])
	switch rapid.IntRange(0, 3).Draw(t, "end") {
	case 0:
		return []accountEvent{{id, account.HoldReleased{HoldID: hold.ID, Amount: amount, Reason: reference}}}
	case 1:
		return []accountEvent{{id, account.HoldExpired{HoldID: hold.ID, Amount: amount}}}
	}
	amount = money.New(rapid.Int64Range(1, hold.Amount).Draw(t, "captured"), currencies[id])
	captured := account.HoldCaptured{HoldID: hold.ID, Amount: amount, Released: hold.Amount - amount.Minor()}
	return append([]accountEvent{{id, captured}}, h.moneyOut(t, id, amount, labels, reference)...)
}

// reversal draws the reversal of a movement that is not fully reversed, with both sides if it is a transfer.
func (h *drawn) reversal(t *rapid.T) []accountEvent {
	n := rapid.IntRange(0, len(h.all)-1).Draw(t, "movement")
	if _, ok := h.all[n].event.(account.TransferReceived); ok {
		n-- // its sender's side
	}
	r := account.Reversal{ReversalID: anyID(t), ReversedPosition: int64(n + 1), Reason: "r"}
	var moved money.Amount
	switch e := h.all[n].event.(type) {
	case account.MoneyDeposited:
		moved = e.Amount
	case account.MoneyWithdrawn:
		moved = e.Amount
	case account.TransferSent:
		moved = e.Amount
		r.TransferID, r.Counterparty = e.TransferID, e.To
	default:
		return nil
	}
	left := moved.Minor()
	for _, earlier := range h.all {
		if back, ok := reversed(earlier.event); ok && back.ReversedPosition == r.ReversedPosition {
			left -= back.Amount.Minor()
		}
	}
	if left == 0 {
		return nil
	}
	r.Amount = money.New(rapid.Int64Range(1, left).Draw(t, "reversed"), moved.Currency())
	id := h.all[n].id
	if _, ok := h.all[n].event.(account.MoneyDeposited); ok {
		return []accountEvent{{id, account.CreditReversed{Reversal: r}}}
	}
	step := []accountEvent{{id, account.DebitReversed{Reversal: r}}}
	if r.TransferID != uuid.Nil {
		other := r
		other.ReversedPosition, other.Counterparty = r.ReversedPosition+1, id
		step = append(step, accountEvent{r.Counterparty, account.CreditReversed{Reversal: other}})
	}
	return step
}

func reversed(e account.Event) (account.Reversal, bool) {
	switch e := e.(type) {
	case account.CreditReversed:
		return e.Reversal, true
	case account.DebitReversed:
		return e.Reversal, true
	}
	return account.Reversal{}, false
}

// clearLog empties the log.
func clearLog(t failer, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), `truncate events, idempotency_keys`); err != nil {
		t.Fatalf("truncate: %v", err)
	}
}
