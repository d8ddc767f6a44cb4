package account_test

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

// model is the rules again, as simply as they can be said: numbers without a size, no events.
type model struct {
	status         string
	currency       money.Currency
	balance, limit *big.Int
}

// world is some accounts, twice: as states made by Decide and Evolve, and as models.
type world struct {
	ids    []uuid.UUID
	states map[uuid.UUID]account.State
	models map[uuid.UUID]*model
	// deposited less withdrawn, by currency.
	net map[money.Currency]*big.Int
}

func newWorld() *world {
	w := &world{
		states: map[uuid.UUID]account.State{},
		models: map[uuid.UUID]*model{},
		net:    map[money.Currency]*big.Int{eur: new(big.Int), jpy: new(big.Int)},
	}
	for n := range 4 {
		id := uuid.UUID{15: byte(n + 1)}
		w.ids = append(w.ids, id)
		w.states[id] = account.State{}
		w.models[id] = &model{status: "missing", balance: new(big.Int), limit: new(big.Int)}
	}
	return w
}

// minors draws amounts that are often small and sometimes near the end of int64.
func minors() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64Range(1, 300), rapid.Int64Range(math.MaxInt64-300, math.MaxInt64))
}

func inMinor(minor int64, c money.Currency) money.Decimal { return dec(money.FormatMinor(minor, c)) }

// record encodes, decodes and applies an event, as the log would.
func (w *world) record(t *rapid.T, id uuid.UUID, e account.Event) {
	encoded, err := eventjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := eventjson.Decode(encoded.Type, encoded.SchemaVersion, encoded.Payload)
	if err != nil || decoded != e {
		t.Fatalf("%+v came back as %+v, %v", e, decoded, err)
	}
	next, err := account.Evolve(w.states[id], decoded)
	if err != nil {
		t.Fatalf("%+v after %+v: %v", decoded, w.states[id], err)
	}
	w.states[id] = next
	snapshot, err := eventjson.MarshalState(next)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := eventjson.UnmarshalState(snapshot); err != nil || back != next {
		t.Fatalf("%+v came back as %+v, %v", next, back, err)
	}
}

// do decides a command, and checks that it is refused with the code the model says, or with none.
func (w *world) do(t *rapid.T, id uuid.UUID, c account.Command, want string) {
	events, err := account.Decide(w.states[id], c)
	checkCode(t, c, err, want)
	for _, e := range events {
		w.record(t, id, e)
	}
}

func checkCode(t *rapid.T, c account.Command, err error, want string) {
	got := ""
	var r *account.Refusal
	switch {
	case errors.Is(err, account.ErrNotFound):
		got = "missing"
	case errors.Is(err, account.ErrExists):
		got = "exists"
	case errors.As(err, &r):
		got = r.Code
	case err != nil:
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("%+v: refused with %q, the model says %q", c, got, want)
	}
}

// movable is why money may not move, or empty.
func (m *model) movable() string {
	switch m.status {
	case "suspended", "closed":
		return "account-" + m.status
	case "missing":
		return "missing"
	}
	return ""
}

func (m *model) cannotCredit(minor int64) bool {
	sum := new(big.Int).Add(m.balance, big.NewInt(minor))
	return !sum.IsInt64() || !sum.Add(sum, m.limit).IsInt64()
}

func (m *model) cannotDebit(minor int64) bool {
	floor := new(big.Int).Neg(m.limit)
	return new(big.Int).Sub(m.balance, big.NewInt(minor)).Cmp(floor) < 0
}

func (w *world) pick(t *rapid.T, label string) (uuid.UUID, *model) {
	id := rapid.SampledFrom(w.ids).Draw(t, label)
	return id, w.models[id]
}

func (w *world) open(t *rapid.T) {
	id, m := w.pick(t, "account")
	c := rapid.SampledFrom([]money.Currency{eur, jpy}).Draw(t, "currency")
	overdraft := rapid.OneOf(rapid.Just(int64(0)), minors()).Draw(t, "limit")
	d := inMinor(overdraft, c)
	want := "exists"
	if m.status == "missing" {
		want = ""
		*m = model{status: "active", currency: c, balance: new(big.Int), limit: big.NewInt(overdraft)}
	}
	w.do(t, id, account.Open{Owner: "Ada", Currency: c, OverdraftLimit: &d}, want)
}

func (w *world) deposit(t *rapid.T) {
	id, m := w.pick(t, "account")
	minor := minors().Draw(t, "minor")
	want := m.movable()
	if want == "" && m.cannotCredit(minor) {
		want = "balance-overflow"
	}
	if want == "" {
		m.balance.Add(m.balance, big.NewInt(minor))
		w.net[m.currency].Add(w.net[m.currency], big.NewInt(minor))
	}
	w.do(t, id, account.Deposit{Amount: inMinor(minor, m.currency), Currency: m.currency, Reference: "r"}, want)
}

func (w *world) withdraw(t *rapid.T) {
	id, m := w.pick(t, "account")
	minor := minors().Draw(t, "minor")
	want := m.movable()
	if want == "" && m.cannotDebit(minor) {
		want = "insufficient-funds"
	}
	if want == "" {
		m.balance.Sub(m.balance, big.NewInt(minor))
		w.net[m.currency].Sub(w.net[m.currency], big.NewInt(minor))
	}
	w.do(t, id, account.Withdraw{Amount: inMinor(minor, m.currency)}, want)
}

func (w *world) transfer(t *rapid.T) {
	fromID, from := w.pick(t, "from")
	toID, to := w.pick(t, "to")
	minor := minors().Draw(t, "minor")
	want := ""
	switch {
	case fromID == toID:
		want = "same-account"
	case from.status == "missing" || to.status == "missing":
		want = "missing"
	case from.movable() != "":
		want = from.movable()
	case to.movable() != "":
		want = to.movable()
	case from.currency != to.currency:
		want = "currency-mismatch"
	case from.cannotDebit(minor):
		want = "insufficient-funds"
	case to.cannotCredit(minor):
		want = "balance-overflow"
	}
	c := account.Transfer{TransferID: uuid.UUID{1}, To: toID, Amount: inMinor(minor, from.currency)}
	sent, received, err := account.DecideTransfer(fromID, w.states[fromID], w.states[toID], c)
	checkCode(t, c, err, want)
	if want == "" {
		from.balance.Sub(from.balance, big.NewInt(minor))
		to.balance.Add(to.balance, big.NewInt(minor))
		w.record(t, fromID, sent)
		w.record(t, toID, received)
	}
}

func (w *world) suspend(t *rapid.T) {
	id, m := w.pick(t, "account")
	want := m.movable()
	if want == "" {
		m.status = "suspended"
	}
	w.do(t, id, account.Suspend{Reason: "r"}, want)
}

func (w *world) reactivate(t *rapid.T) {
	id, m := w.pick(t, "account")
	want := ""
	switch m.status {
	case "suspended":
		m.status = "active"
	case "active":
		want = "account-not-suspended"
	default:
		want = m.movable()
	}
	w.do(t, id, account.Reactivate{}, want)
}

func (w *world) end(t *rapid.T) {
	id, m := w.pick(t, "account")
	want := ""
	switch {
	case m.status == "missing" || m.status == "closed":
		want = m.movable()
	case m.balance.Sign() != 0:
		want = "balance-not-zero"
	default:
		m.status = "closed"
	}
	w.do(t, id, account.Close{}, want)
}

// check compares every state with its model, and counts the money.
func (w *world) check(t *rapid.T) {
	total := map[money.Currency]*big.Int{eur: new(big.Int), jpy: new(big.Int)}
	for id, m := range w.models {
		s := w.states[id]
		if s.Status.String() != m.status || s.Currency != m.currency || m.balance.Cmp(big.NewInt(s.Balance)) != 0 ||
			m.limit.Cmp(big.NewInt(s.OverdraftLimit)) != 0 {
			t.Fatalf("state %+v, model %+v", s, m)
		}
		if s.Balance < -s.OverdraftLimit || s.Available() < 0 {
			t.Fatalf("overdrawn: %+v", s)
		}
		if s.Exists() {
			total[s.Currency].Add(total[s.Currency], m.balance)
		}
	}
	for c, net := range w.net {
		if total[c].Cmp(net) != 0 {
			t.Fatalf("%s: balances add up to %s, deposits less withdrawals to %s", c, total[c], net)
		}
	}
}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		t.Repeat(map[string]func(*rapid.T){
			"open": w.open, "deposit": w.deposit, "withdraw": w.withdraw, "transfer": w.transfer,
			"suspend": w.suspend, "reactivate": w.reactivate, "close": w.end, "": w.check,
		})
	})
}
