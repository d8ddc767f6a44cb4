package query_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/query"
)

// recorded is an event in the log, and the state of its account after it by the domain's own Evolve.
type recorded struct {
	id       uuid.UUID
	event    account.Event
	position int64
	version  int64
	at       time.Time
	state    account.State
}

// history is a random log while it is drawn.
type history struct {
	log      []recorded
	states   map[uuid.UUID]account.State
	versions map[uuid.UUID]int64
}

// accountIDs are the accounts of a history: two in each of two currencies.
var accountIDs = []uuid.UUID{{0: 1, 15: 1}, {0: 2, 15: 2}, {0: 0x80, 15: 3}, {0: 0xff, 15: 4}}

// references and labels are what accounts and movements of a history have, and what it is searched for.
var (
	references = []string{"", "rent", "salary"}
	labels     = []map[string]string{nil, {"k": "v"}, {"k": "v", "n": "1"}, {"k": ""}}
)

// drawHistory appends random events of four accounts to an empty log and projects them. Events appended together have one time.
func (f *fixture) drawHistory(t *rapid.T) []recorded {
	f.exec(t, `truncate events, idempotency_keys, projections, projection_replays, balances, transactions, account_details, totals, holds`)
	h := history{states: make(map[uuid.UUID]account.State), versions: make(map[uuid.UUID]int64)}
	for range rapid.IntRange(1, 6).Draw(t, "appends") {
		from := len(h.log)
		for range rapid.IntRange(1, 5).Draw(t, "steps") {
			h.add(h.anyStep(t))
		}
		if from == len(h.log) {
			continue
		}
		var events []eventstore.NewEvent
		for _, r := range h.log[from:] {
			e, err := eventjson.Encode(r.event)
			if err != nil {
				t.Fatalf("encode: %v", err)
			}
			events = append(events, eventstore.NewEvent{
				StreamID: r.id, Version: r.version,
				EventID: pgtest.EventID(r.id, r.version), Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload,
			})
		}
		_, at := pgtest.Append(t, eventstore.New(f.pool), events...)
		for i := range h.log[from:] {
			h.log[from+i].at = at
		}
	}
	f.project(t, rapid.IntRange(1, 10).Draw(t, "batch"))
	return h.log
}

// add adds the events of a command to the log, unless the domain does not allow one of them.
func (h *history) add(step []recorded) {
	states := maps.Clone(h.states)
	for i, r := range step {
		next, err := account.Evolve(states[r.id], r.event)
		if err != nil {
			return
		}
		states[r.id], step[i].state = next, next
	}
	h.states = states
	for _, r := range step {
		h.versions[r.id]++
		r.version, r.position = h.versions[r.id], int64(len(h.log)+1)
		h.log = append(h.log, r)
	}
}

// newID returns an id that no earlier step has used.
func (h *history) newID() uuid.UUID { return uuid.UUID{0: 0x77, 15: byte(len(h.log))} }

// anyStep draws the events of a command.
func (h *history) anyStep(t *rapid.T) []recorded {
	n := rapid.IntRange(0, 3).Draw(t, "account")
	id, other := accountIDs[n], accountIDs[n^2]
	currency, _ := money.LookupCurrency([]string{"EUR", "JPY"}[n&1])
	owner := rapid.SampledFrom([]string{"Ada", "Eda"}).Draw(t, "owner")
	limit := rapid.Int64Range(0, 50).Draw(t, "limit")
	metadata := account.NewMetadata(rapid.SampledFrom(labels).Draw(t, "metadata"))
	one := func(e account.Event) []recorded { return []recorded{{id: id, event: e}} }
	s := h.states[id]
	if !s.Exists() {
		return one(account.AccountCreated{Owner: owner, Currency: currency, OverdraftLimit: limit, Metadata: metadata})
	}
	amount := money.New(rapid.OneOf(rapid.Int64Range(1, 500), rapid.Just(int64(1<<62))).Draw(t, "amount"), currency)
	reference := rapid.SampledFrom(references).Draw(t, "reference")
	out := account.MoneyWithdrawn{Amount: amount, Reference: reference, Metadata: metadata}
	switch rapid.IntRange(0, 13).Draw(t, "step") {
	case 0, 1, 2:
		return h.moneyOut(t, id, other, out)
	case 3, 4:
		e := account.HoldPlaced{HoldID: h.newID(), Amount: amount, Reference: reference, Metadata: metadata}
		if rapid.Bool().Draw(t, "expires") {
			e.ExpiresAt = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
		}
		return one(e)
	case 5, 6, 7:
		if len(s.Holds) > 0 {
			return h.holdEnds(t, id, other, out)
		}
	case 8, 9, 10:
		return h.reversal(t)
	case 11:
		return one(rapid.SampledFrom([]account.Event{
			account.OwnerChanged{Owner: owner},
			account.OverdraftLimitChanged{OverdraftLimit: limit, Currency: currency},
			account.MetadataChanged{Metadata: metadata},
		}).Draw(t, "change"))
	case 12:
		return one(rapid.SampledFrom([]account.Event{
			account.AccountSuspended{}, account.AccountReactivated{}, account.AccountClosed{},
		}).Draw(t, "status"))
	}
	return one(account.MoneyDeposited{Amount: amount, Reference: reference, Metadata: metadata})
}

// moneyOut draws a withdrawal, or both sides of a transfer.
func (h *history) moneyOut(t *rapid.T, id, other uuid.UUID, m account.MoneyWithdrawn) []recorded {
	if !rapid.Bool().Draw(t, "transfer") {
		return []recorded{{id: id, event: m}}
	}
	transfer := h.newID()
	return []recorded{
		{id: id, event: account.TransferSent{TransferID: transfer, To: other, Amount: m.Amount, Reference: m.Reference, Metadata: m.Metadata}},
		{id: other, event: account.TransferReceived{TransferID: transfer, From: id, Amount: m.Amount, Reference: m.Reference, Metadata: m.Metadata}},
	}
}

// holdEnds draws the end of an open hold; m is the movement of a capture, whose amount is drawn too.
func (h *history) holdEnds(t *rapid.T, id, other uuid.UUID, m account.MoneyWithdrawn) []recorded {
	hold := rapid.SampledFrom(h.states[id].Holds).Draw(t, "hold")
	all := money.New(hold.Amount, m.Amount.Currency())
	switch rapid.IntRange(0, 3).Draw(t, "end") {
	case 0:
		return []recorded{{id: id, event: account.HoldReleased{HoldID: hold.ID, Amount: all}}}
	case 1:
		return []recorded{{id: id, event: account.HoldExpired{HoldID: hold.ID, Amount: all}}}
	}
	m.Amount = money.New(upTo(hold.Amount).Draw(t, "captured"), all.Currency())
	captured := account.HoldCaptured{HoldID: hold.ID, Amount: m.Amount, Released: hold.Amount - m.Amount.Minor()}
	return append([]recorded{{id: id, event: captured}}, h.moneyOut(t, id, other, m)...)
}

// reversal draws the reversal of a movement that is not fully reversed, of a transfer on either side first.
func (h *history) reversal(t *rapid.T) []recorded {
	left := slices.DeleteFunc(movements(h.log, len(h.log)), func(m query.Transaction) bool {
		return m.Reverses != 0 || m.ReversedAmount == m.Amount
	})
	if len(left) == 0 {
		return nil
	}
	m := rapid.SampledFrom(left).Draw(t, "movement")
	r := account.Reversal{
		ReversalID: h.newID(), ReversedPosition: m.Position, TransferID: m.TransferID, Counterparty: m.Counterparty,
		Amount: money.New(upTo(m.Amount-m.ReversedAmount).Draw(t, "reversed"), m.Currency),
	}
	step := []recorded{h.undone(m.AccountID, r, isIn(m))}
	if m.TransferID != uuid.Nil {
		r.Counterparty = m.AccountID
		if r.ReversedPosition++; isIn(m) {
			r.ReversedPosition = m.Position - 1
		}
		step = append(step, h.undone(m.Counterparty, r, !isIn(m)))
	}
	return step
}

func (h *history) undone(id uuid.UUID, r account.Reversal, in bool) recorded {
	if !in {
		return recorded{id: id, event: account.DebitReversed{Reversal: r}}
	}
	r.Forced = r.Amount.Minor() > h.states[id].Available()
	return recorded{id: id, event: account.CreditReversed{Reversal: r}}
}

// upTo draws an amount that is often the whole.
func upTo(whole int64) *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Just(whole), rapid.Int64Range(1, whole))
}

func isIn(m query.Transaction) bool { return m.Kind == "deposit" || strings.HasSuffix(m.Kind, "_in") }

// movements are the movements among the first n events of the log, in its order, with the reversals among those events.
func movements(log []recorded, n int) []query.Transaction {
	var all []query.Transaction
	index := make(map[int64]int)
	for i, r := range log[:n] {
		m := query.Transaction{
			AccountID: r.id, Currency: r.state.Currency, ReversedBy: []int64{}, Balance: r.state.Balance,
			Version: r.version, Position: r.position, RecordedAt: r.at,
		}
		reverse := func(kind string, r account.Reversal) {
			m.Kind, m.Amount, m.Reverses, m.Counterparty, m.TransferID = kind, r.Amount.Minor(), r.ReversedPosition, r.Counterparty, r.TransferID
			of := &all[index[r.ReversedPosition]]
			of.ReversedBy, of.ReversedAmount = append(of.ReversedBy, m.Position), of.ReversedAmount+m.Amount
		}
		switch e := r.event.(type) {
		case account.MoneyDeposited:
			m.Kind, m.Amount, m.Reference, m.Metadata = "deposit", e.Amount.Minor(), e.Reference, e.Metadata.Map()
		case account.MoneyWithdrawn:
			m.Kind, m.Amount, m.Reference, m.Metadata = "withdrawal", e.Amount.Minor(), e.Reference, e.Metadata.Map()
			m.HoldID = capturedBy(log[:i], r.id)
		case account.TransferReceived:
			m.Kind, m.Amount, m.Reference, m.Metadata = "transfer_in", e.Amount.Minor(), e.Reference, e.Metadata.Map()
			m.Counterparty, m.TransferID = e.From, e.TransferID
		case account.TransferSent:
			m.Kind, m.Amount, m.Reference, m.Metadata = "transfer_out", e.Amount.Minor(), e.Reference, e.Metadata.Map()
			m.Counterparty, m.TransferID, m.HoldID = e.To, e.TransferID, capturedBy(log[:i], r.id)
		case account.CreditReversed:
			reverse("reversal_out", e.Reversal)
		case account.DebitReversed:
			reverse("reversal_in", e.Reversal)
		default:
			continue
		}
		index[m.Position] = len(all)
		all = append(all, m)
	}
	return all
}

// capturedBy returns the hold of the account whose capture is the last event so far, or the nil UUID.
func capturedBy(log []recorded, id uuid.UUID) uuid.UUID {
	if len(log) > 0 && log[len(log)-1].id == id {
		if e, ok := log[len(log)-1].event.(account.HoldCaptured); ok {
			return e.HoldID
		}
	}
	return uuid.Nil
}

// holds are all holds of an account, newest first.
func holds(log []recorded, id uuid.UUID) []query.Hold {
	var all []query.Hold
	for i, r := range log {
		if r.id != id {
			continue
		}
		end := func(hold uuid.UUID, status string, captured int64) {
			h := &all[slices.IndexFunc(all, func(h query.Hold) bool { return h.ID == hold })]
			h.Status, h.Captured, h.EndedAt, h.EndedPosition = status, captured, r.at, r.position
		}
		switch e := r.event.(type) {
		case account.HoldPlaced:
			all = append(all, query.Hold{
				ID: e.HoldID, AccountID: id, Currency: r.state.Currency, Amount: e.Amount.Minor(), Status: "open", Reference: e.Reference,
				Metadata: e.Metadata.Map(), ExpiresAt: e.ExpiresAt, PlacedAt: r.at, Position: r.position,
			})
		case account.HoldCaptured:
			end(e.HoldID, "captured", e.Amount.Minor())
		case account.HoldReleased:
			end(e.HoldID, "released", 0)
		case account.HoldExpired:
			end(e.HoldID, "expired", 0)
		case account.TransferSent:
			if hold := capturedBy(log[:i], id); hold != uuid.Nil {
				all[slices.IndexFunc(all, func(h query.Hold) bool { return h.ID == hold })].TransferID = e.TransferID
			}
		}
	}
	slices.Reverse(all)
	return all
}

// last returns the last of the first n events of the log that is of the account.
func last(log []recorded, n int, id uuid.UUID) (recorded, bool) {
	for _, r := range slices.Backward(log[:n]) {
		if r.id == id {
			return r, true
		}
	}
	return recorded{}, false
}

// before returns how many events of the log were recorded before a time; all without one.
func before(log []recorded, at *time.Time) int {
	if at == nil {
		return len(log)
	}
	n := slices.IndexFunc(log, func(r recorded) bool { return !r.at.Before(*at) })
	if n < 0 {
		return len(log)
	}
	return n
}
