package account_test

import (
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/money"
)

// The commands of TestAgainstModel. Each method draws a command, predicts its outcome with the model, and runs it.

func (w *world) pick(t *rapid.T, label string) (uuid.UUID, *model) {
	id := rapid.SampledFrom(w.ids).Draw(t, label)
	return id, w.models[id]
}

// earn adds to deposited less withdrawn.
func (w *world) earn(c money.Currency, minor int64) { w.net[c].Add(w.net[c], big.NewInt(minor)) }

func (w *world) open(t *rapid.T) {
	id, m := w.pick(t, "account")
	c := rapid.SampledFrom([]money.Currency{eur, eur, jpy}).Draw(t, "currency")
	overdraft := rapid.OneOf(rapid.Just(int64(0)), minors()).Draw(t, "limit")
	limit := inMinor(overdraft, c)
	initial, minor := maybe(t, c, 0)
	opened := model{status: "active", owner: "Ada", currency: c, balance: new(big.Int), limit: big.NewInt(overdraft)}
	want := ""
	switch {
	case m.status != "missing":
		want = "exists"
	case initial != nil && opened.cannotCredit(minor):
		want = "balance-overflow"
	default:
		*m = opened
		m.move(minor)
		w.earn(c, minor)
	}
	w.do(t, id, account.Open{Owner: "Ada", Currency: c, OverdraftLimit: &limit, InitialDeposit: initial}, want)
}

func (w *world) change(t *rapid.T) {
	id, m := w.pick(t, "account")
	after := *m
	var c account.Change
	if rapid.Bool().Draw(t, "owner") {
		after.owner = "Bob"
		c.Owner = &after.owner
	}
	if rapid.Bool().Draw(t, "limit") {
		minor := rapid.OneOf(rapid.Just(int64(0)), minors()).Draw(t, "minor")
		after.limit = big.NewInt(minor)
		d := inMinor(minor, m.currency)
		c.OverdraftLimit = &d
	}
	if rapid.Bool().Draw(t, "metadata") {
		c.Metadata = map[string]*string{}
		after.metadata = maps.Clone(m.metadata)
		if after.metadata == nil {
			after.metadata = map[string]string{}
		}
		for _, key := range []string{"a", "b"} {
			switch value := rapid.SampledFrom([]string{"same", "none", "é"}).Draw(t, key); value {
			case "none":
				c.Metadata[key] = nil
				delete(after.metadata, key)
			case "é":
				c.Metadata[key] = &value
				after.metadata[key] = value
			}
		}
	}
	want := ""
	switch {
	case m.status == "missing" || m.status == "closed":
		want = m.movable()
	case after.cannotCredit(0):
		want = "balance-overflow"
	case after.limit.Cmp(m.limit) < 0 && after.available().Sign() < 0:
		want = "limit-below-debit"
	case c.Owner == nil && c.OverdraftLimit == nil && c.Metadata == nil:
		want = "nothing-to-change"
	default:
		*m = after
	}
	w.do(t, id, c, want)
}

func (w *world) deposit(t *rapid.T) {
	id, m := w.pick(t, "account")
	minor := minors().Draw(t, "minor")
	want := m.movable()
	if want == "" && m.cannotCredit(minor) {
		want = "balance-overflow"
	}
	if want == "" {
		m.move(minor)
		w.earn(m.currency, minor)
	}
	w.do(t, id, account.Deposit{
		Amount: inMinor(minor, m.currency), Currency: m.currency, Reference: "r", Metadata: labels,
	}, want)
}

func (w *world) withdraw(t *rapid.T) {
	id, m := w.pick(t, "account")
	minor := minors().Draw(t, "minor")
	want := m.movable()
	if want == "" && m.cannotDebit(minor) {
		want = "insufficient-funds"
	}
	if want == "" {
		m.move(-minor)
		w.earn(m.currency, -minor)
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
	default:
		from.move(-minor)
		to.move(minor)
	}
	w.do(t, fromID, account.Transfer{TransferID: w.newID(), To: toID, Amount: inMinor(minor, from.currency)}, want)
}

// newID returns an id that no event has.
func (w *world) newID() uuid.UUID {
	return uuid.UUID{1, 14: byte(len(w.log) >> 8), 15: byte(len(w.log))}
}

// changeStatus rarely changes it, because little can happen on an account that is suspended or closed.
func (w *world) changeStatus(t *rapid.T) {
	rapid.SampledFrom([]func(*rapid.T){w.tick, w.reactivate, w.reactivate, w.suspend, w.end}).Draw(t, "status")(t)
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
	case len(m.holds) > 0:
		want = "holds-open"
	default:
		m.status = "closed"
	}
	w.do(t, id, account.Close{}, want)
}

// tick advances the clock.
func (w *world) tick(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.Int64Range(1, 3).Draw(t, "seconds")) * time.Second)
}

func (w *world) hold(t *rapid.T) {
	id, m := w.pick(t, "account")
	h := &modelHold{id: w.newID(), account: id, minor: minors().Draw(t, "minor")}
	twice := len(m.holds) > 0 && rapid.IntRange(0, 3).Draw(t, "id") == 0
	if twice {
		h.id = m.holds[0].id
	}
	if seconds := rapid.Int64Range(0, 5).Draw(t, "expires"); seconds > 0 { // 1 is now
		h.expires = w.now.Add(time.Duration(seconds-1) * time.Second)
	}
	want := ""
	switch {
	case m.movable() != "":
		want = m.movable()
	case h.expires.Equal(w.now):
		want = "expiry-in-past"
	case twice:
		want = "hold exists"
	case m.cannotDebit(h.minor):
		want = "insufficient-funds"
	default:
		m.holds = append(m.holds, h)
		w.holds = append(w.holds, h)
	}
	w.do(t, id, account.PlaceHold{HoldID: h.id, Amount: inMinor(h.minor, m.currency), ExpiresAt: h.expires, Metadata: labels}, want)
}

// pickHold draws a hold, open or not, and an account, mostly the hold's own.
func (w *world) pickHold(t *rapid.T) (uuid.UUID, *model, *modelHold) {
	if len(w.holds) == 0 {
		t.Skip("no holds")
	}
	holds := w.holds
	if open := slices.DeleteFunc(slices.Clone(holds), func(h *modelHold) bool { return !w.models[h.account].has(h) }); len(open) > 0 &&
		rapid.IntRange(0, 3).Draw(t, "ended") < 3 {
		holds = open
	}
	h := rapid.SampledFrom(holds).Draw(t, "hold")
	if rapid.IntRange(0, 7).Draw(t, "another account") == 0 {
		id, m := w.pick(t, "account")
		return id, m, h
	}
	return h.account, w.models[h.account], h
}

func (h *modelHold) expired(now time.Time) bool { return !h.expires.IsZero() && !now.Before(h.expires) }

func (w *world) capture(t *rapid.T) {
	id, m, h := w.pickHold(t)
	var toID uuid.UUID
	out := rapid.Bool().Draw(t, "out")
	to := m
	if !out {
		toID, to = w.pick(t, "to")
	}
	amount, minor := maybe(t, m.currency, h.minor)
	want := ""
	switch {
	case toID == id:
		want = "same-account"
	case m.status == "missing" || to.status == "missing":
		want = "missing"
	case m.movable() != "":
		want = m.movable()
	case !m.has(h):
		want = "no hold"
	case h.expired(w.now):
		want = "hold-expired"
	case minor > h.minor:
		want = "amount-above-hold"
	case !out && to.movable() != "":
		want = to.movable()
	case !out && m.currency != to.currency:
		want = "currency-mismatch"
	case !out && to.cannotCredit(minor):
		want = "balance-overflow"
	default:
		m.free(h)
		m.move(-minor)
		if out {
			w.earn(m.currency, -minor)
		} else {
			to.move(minor)
		}
	}
	w.do(t, id, account.CaptureHold{HoldID: h.id, Amount: amount, To: toID, TransferID: w.newID()}, want)
}

func (w *world) release(t *rapid.T) {
	id, m, h := w.pickHold(t)
	want := ""
	switch {
	case m.status == "missing":
		want = "missing"
	case !m.free(h):
		want = "no hold"
	}
	w.do(t, id, account.ReleaseHold{HoldID: h.id, Reason: "r"}, want)
}

func (w *world) expire(t *rapid.T) {
	id, m, h := w.pickHold(t)
	want := ""
	switch {
	case m.status == "missing":
		want = "missing"
	case !m.has(h):
		want = "no hold"
	case !h.expired(w.now):
		want = "hold-not-expired"
	default:
		m.free(h)
	}
	w.do(t, id, account.ExpireHold{HoldID: h.id}, want)
}

// reverse draws a position, mostly of a movement that can still be reversed, and reads there what package command reads.
func (w *world) reverse(t *rapid.T) {
	c := account.Reverse{ReversalID: w.newID(), Reason: "r", Force: rapid.Bool().Draw(t, "force")}
	positions := make([]int64, 0, len(w.log)+1)
	every := rapid.IntRange(0, 7).Draw(t, "any of them") == 7
	for i, entry := range w.log {
		if minor, _ := movedBy(entry.Event); every || minor > w.reversed[int64(i+1)] {
			positions = append(positions, int64(i+1))
		}
	}
	c.Position = rapid.SampledFrom(append(positions, int64(len(w.log)+1))).Draw(t, "position")
	if c.Position > int64(len(w.log)) {
		w.do(t, uuid.Nil, c, "no movement")
		return
	}
	entry := w.log[c.Position-1]
	moved, in := movedBy(entry.Event)
	c.Movement = account.Movement{AccountID: entry.AccountID, Event: entry.Event, Reversed: w.reversed[c.Position]}
	own := w.models[entry.AccountID]
	var other *model
	switch e := entry.Event.(type) {
	case account.TransferSent:
		other, c.Movement.OtherPosition = w.models[e.To], c.Position+1
	case account.TransferReceived:
		other, c.Movement.OtherPosition = w.models[e.From], c.Position-1
	}
	left := moved - w.reversed[c.Position]
	amount, minor := maybe(t, own.currency, left)
	c.Amount = amount
	w.do(t, entry.AccountID, c, w.undo(c, own, other, minor, moved, in))
}

// undo applies a reversal of minor units to the models, or returns the code of its refusal.
func (w *world) undo(c account.Reverse, own, other *model, minor, moved int64, in bool) string {
	left := moved - w.reversed[c.Position]
	switch {
	case moved == 0:
		return "not-reversible"
	case left == 0:
		return "already-reversed"
	case minor > left:
		return "amount-above-movement"
	case own.movable() != "":
		return own.movable()
	case other != nil && other.movable() != "":
		return other.movable()
	}
	payer, payee := own, other // the money goes from payer to payee; nil is the world outside
	if !in {
		payer, payee = other, own
	}
	broke := payer != nil && payer.cannotDebit(minor) && (!c.Force || payer.cannotForce(minor))
	full := payee != nil && payee.cannotCredit(minor)
	switch {
	case broke && (in || !full):
		return "insufficient-funds"
	case full:
		return "balance-overflow"
	}
	if payer != nil {
		payer.forced = payer.forced || payer.cannotDebit(minor)
		payer.move(-minor)
	}
	if payee != nil {
		payee.move(minor)
	}
	w.reversed[c.Position] += minor
	switch {
	case other != nil:
		w.reversed[c.Movement.OtherPosition] += minor
	case in:
		w.earn(own.currency, -minor)
	default:
		w.earn(own.currency, minor)
	}
	return ""
}
