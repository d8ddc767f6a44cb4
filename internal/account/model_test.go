package account_test

import (
	"errors"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/money"
)

// model restates the rules as simply as possible: numbers of any size, no events.
type model struct {
	status         string
	owner          string
	currency       money.Currency
	balance, limit *big.Int
	holds          []*modelHold
	metadata       map[string]string
	// forced is set if a reversal has taken money that was not available, so that the account may be below its limit.
	forced bool
}

type modelHold struct {
	id      uuid.UUID
	account uuid.UUID
	minor   int64
	// expires is the zero time if it does not.
	expires time.Time
}

// world is a few accounts, each as a state made by Decide and Evolve and as a model.
type world struct {
	now    time.Time
	ids    []uuid.UUID
	states states
	models map[uuid.UUID]*model
	// log is all events; an event's position is its index plus one.
	log []account.Entry
	// holds is every hold ever placed.
	holds []*modelHold
	// reversed is how much of the movement at a position has been reversed, left how much still can be.
	reversed map[int64]int64
	// net is deposited less withdrawn, by currency.
	net map[money.Currency]*big.Int
}

// newWorld has two accounts in one currency, one in another and one that was never opened.
func newWorld(t *rapid.T) *world {
	w := &world{
		now:      noon,
		states:   states{},
		models:   map[uuid.UUID]*model{},
		reversed: map[int64]int64{},
		net:      map[money.Currency]*big.Int{eur: new(big.Int), jpy: new(big.Int)},
	}
	for n := range 4 {
		id := uuid.UUID{15: byte(n + 1)}
		w.ids = append(w.ids, id)
		w.models[id] = &model{status: "missing", balance: new(big.Int), limit: new(big.Int)}
	}
	for n, c := range []money.Currency{eur, eur, jpy} {
		*w.models[w.ids[n]] = model{status: "active", owner: "Ada", currency: c, balance: new(big.Int), limit: new(big.Int)}
		w.do(t, w.ids[n], account.Open{Owner: "Ada", Currency: c}, "")
	}
	return w
}

// minors draws amounts that are often small and sometimes near the end of int64.
func minors() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64Range(1, 300), rapid.Int64Range(1, 300), rapid.Int64Range(math.MaxInt64-300, math.MaxInt64))
}

func inMinor(minor int64, c money.Currency) money.Decimal { return dec(money.FormatMinor(minor, c)) }

// maybe draws nil or an amount that is often up to most.
func maybe(t *rapid.T, c money.Currency, most int64) (*money.Decimal, int64) {
	minor := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, max(1, most)), minors()).Draw(t, "minor, 0 is none")
	if minor == 0 {
		return nil, most
	}
	d := inMinor(minor, c)
	return &d, minor
}

// do decides a command and checks that it is refused with the code that the model predicts, or accepted if that is empty. It then
// records the events, so the model must have been updated before.
func (w *world) do(t *rapid.T, id uuid.UUID, c account.Command, want string) {
	entries, err := account.Decide(w.now, id, c, w.states.of)
	if got := codeOf(t, err); got != want {
		t.Fatalf("%+v: refused with %q, the model says %q", c, got, want)
	}
	if (err == nil) != (len(entries) > 0) {
		t.Fatalf("%+v: decided %+v, %v", c, entries, err)
	}
	for _, e := range entries {
		w.record(t, e)
	}
}

func codeOf(t *rapid.T, err error) string {
	var r *account.Refusal
	switch {
	case err == nil:
		return ""
	case errors.Is(err, account.ErrNotFound):
		return "missing"
	case errors.Is(err, account.ErrExists):
		return "exists"
	case errors.Is(err, account.ErrHoldExists):
		return "hold exists"
	case errors.Is(err, account.ErrHoldNotFound):
		return "no hold"
	case errors.Is(err, account.ErrMovementNotFound):
		return "no movement"
	case errors.As(err, &r):
		return r.Code
	}
	t.Fatal(err)
	return ""
}

// record encodes, decodes and applies an event, as the log would.
func (w *world) record(t *rapid.T, entry account.Entry) {
	encoded, err := eventjson.Encode(entry.Event)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := eventjson.Decode(encoded.Type, encoded.SchemaVersion, encoded.Payload)
	if err != nil || decoded != entry.Event {
		t.Fatalf("%+v came back as %+v, %v", entry.Event, decoded, err)
	}
	next, err := account.Evolve(w.states[entry.AccountID], decoded)
	if err != nil {
		t.Fatalf("%+v after %+v: %v", decoded, w.states[entry.AccountID], err)
	}
	if e, ok := decoded.(account.CreditReversed); ok && e.Forced != (w.states[entry.AccountID].Available() < e.Amount.Minor()) {
		t.Fatalf("%+v after %+v", e, w.states[entry.AccountID])
	}
	snapshot, err := eventjson.MarshalState(next)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := eventjson.UnmarshalState(snapshot); err != nil || !reflect.DeepEqual(back, next) {
		t.Fatalf("%+v came back as %+v, %v", next, back, err)
	}
	w.states[entry.AccountID] = next
	w.log = append(w.log, entry)
}

// movable returns the code that says why money may not move, or "".
func (m *model) movable() string {
	switch m.status {
	case "suspended", "closed":
		return "account-" + m.status
	case "missing":
		return "missing"
	}
	return ""
}

func (m *model) held() *big.Int {
	sum := new(big.Int)
	for _, h := range m.holds {
		sum.Add(sum, big.NewInt(h.minor))
	}
	return sum
}

func (m *model) available() *big.Int {
	sum := new(big.Int).Add(m.balance, m.limit)
	return sum.Sub(sum, m.held())
}

func (m *model) cannotCredit(minor int64) bool {
	sum := new(big.Int).Add(m.balance, big.NewInt(minor))
	return !sum.IsInt64() || !sum.Add(sum, m.limit).IsInt64()
}

func (m *model) cannotDebit(minor int64) bool { return m.available().Cmp(big.NewInt(minor)) < 0 }

// cannotForce reports whether a debit and the capture of all holds would take the account below -MaxInt64.
func (m *model) cannotForce(minor int64) bool {
	sum := new(big.Int).Sub(m.balance, big.NewInt(minor))
	return sum.Sub(sum, m.held()).Cmp(big.NewInt(-math.MaxInt64)) < 0
}

func (m *model) move(minor int64) { m.balance.Add(m.balance, big.NewInt(minor)) }

// free ends a hold, and reports whether it was open.
func (m *model) free(h *modelHold) bool {
	open := len(m.holds)
	m.holds = slices.DeleteFunc(m.holds, func(other *modelHold) bool { return other.id == h.id })
	return len(m.holds) < open
}

func (m *model) has(h *modelHold) bool { return slices.Contains(m.holds, h) }

// check compares every state with its model, and counts the money.
func (w *world) check(t *rapid.T) {
	total := map[money.Currency]*big.Int{eur: new(big.Int), jpy: new(big.Int)}
	for id, m := range w.models {
		s := w.states[id]
		if s.Status.String() != m.status || s.Currency != m.currency || s.Owner != m.owner || m.balance.Cmp(big.NewInt(s.Balance)) != 0 ||
			m.limit.Cmp(big.NewInt(s.OverdraftLimit)) != 0 || !maps.Equal(s.Metadata.Map(), m.metadata) {
			t.Fatalf("state %+v, model %+v", s, m)
		}
		if m.held().Cmp(big.NewInt(s.Held)) != 0 || m.available().Cmp(big.NewInt(s.Available())) != 0 || len(s.Holds) != len(m.holds) {
			t.Fatalf("state %+v, model %+v", s, m)
		}
		for _, h := range m.holds {
			if got, ok := s.Hold(h.id); !ok || got.Amount != h.minor || !got.ExpiresAt.Equal(h.expires) {
				t.Fatalf("hold %+v: %+v", h, got)
			}
		}
		if !m.forced && s.Available() < 0 {
			t.Fatalf("overdrawn: %+v", s)
		}
		if s.Exists() {
			total[s.Currency].Add(total[s.Currency], big.NewInt(s.Balance))
		}
	}
	for c, net := range w.net {
		if total[c].Cmp(net) != 0 {
			t.Fatalf("%s: balances add up to %s, deposits less withdrawals to %s", c, total[c], net)
		}
	}
	w.checkLog(t)
}

// checkLog checks the events themselves: no more is reversed than was moved, a reversal is of its own account's movement and goes
// the other way, the sides of a transfer are next to each other, and a hold ends once.
func (w *world) checkLog(t *rapid.T) {
	reversed, holds := map[int64]*big.Int{}, map[uuid.UUID]int{}
	for i, entry := range w.log {
		switch e := entry.Event.(type) {
		case account.CreditReversed:
			w.checkReversal(t, reversed, entry, e.Reversal, true)
		case account.DebitReversed:
			w.checkReversal(t, reversed, entry, e.Reversal, false)
		case account.TransferReceived:
			if other, ok := w.log[i-1].Event.(account.TransferSent); !ok || other.TransferID != e.TransferID || other.To != entry.AccountID {
				t.Fatalf("position %d: %+v after %+v", i+1, entry, w.log[i-1])
			}
		case account.HoldCaptured:
			holds[e.HoldID]++
		case account.HoldReleased:
			holds[e.HoldID]++
		case account.HoldExpired:
			holds[e.HoldID]++
		}
	}
	for id, times := range holds {
		if times > 1 {
			t.Fatalf("hold %s ended %d times", id, times)
		}
	}
}

func (w *world) checkReversal(t *rapid.T, sums map[int64]*big.Int, entry account.Entry, r account.Reversal, credit bool) {
	of := w.log[r.ReversedPosition-1]
	moved, in := movedBy(of.Event)
	if of.AccountID != entry.AccountID || in != credit {
		t.Fatalf("%+v reverses %+v", entry, of)
	}
	if sums[r.ReversedPosition] == nil {
		sums[r.ReversedPosition] = new(big.Int)
	}
	if sum := sums[r.ReversedPosition]; sum.Add(sum, big.NewInt(r.Amount.Minor())).Cmp(big.NewInt(moved)) > 0 {
		t.Fatalf("%s of %+v has been reversed", sum, of)
	}
}

// movedBy returns the amount of a movement and whether it brought money in; 0 if e is not a movement.
func movedBy(e account.Event) (minor int64, in bool) {
	switch e := e.(type) {
	case account.MoneyDeposited:
		return e.Amount.Minor(), true
	case account.TransferReceived:
		return e.Amount.Minor(), true
	case account.MoneyWithdrawn:
		return e.Amount.Minor(), false
	case account.TransferSent:
		return e.Amount.Minor(), false
	}
	return 0, false
}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	for range 5 { // each 100 times, unless -rapid.checks says otherwise
		t.Run("", func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t)
				t.Repeat(map[string]func(*rapid.T){ // an action listed twice is drawn more often
					"open": w.open, "change": w.change, "status": w.changeStatus, "tick": w.tick,
					"deposit": w.deposit, "deposit 2": w.deposit, "withdraw": w.withdraw, "transfer": w.transfer,
					"hold": w.hold, "hold 2": w.hold, "capture": w.capture, "capture 2": w.capture,
					"release": w.release, "expire": w.expire, "reverse": w.reverse, "reverse 2": w.reverse,
					"": w.check,
				})
			})
		})
	}
}
