package command_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/eventstore"
)

// folded is the fold of a log.
type folded struct {
	accounts map[uuid.UUID]account.State
	versions map[uuid.UUID]int64
	events   []eventstore.Event
}

// checkLog reads the whole log and asserts I1, I3 and I8: positions and versions have no gap, times never decrease, the state
// before each event allows it, and money is conserved at every position. The two sides of a transfer, or of its reversal, are at
// neighbouring positions; between them one amount is in transit. No id is used twice, no hold ends twice, the held amounts are the
// sums of the open holds, and no movement is reversed beyond its amount.
func checkLog(t testing.TB, pool *pgxpool.Pool) folded {
	t.Helper()
	events, err := eventstore.New(pool).ReadAfter(context.Background(), 0, 10_000_000)
	if err != nil {
		t.Fatal(err)
	}
	f := folded{accounts: make(map[uuid.UUID]account.State), versions: make(map[uuid.UUID]int64), events: events}
	ends := newEnds()
	inside, total := int64(0), int64(0) // deposited less withdrawn, and the sum of the balances
	var before time.Time
	for i := range events {
		e := &events[i]
		if e.Position != int64(i)+1 || e.RecordedAt.Before(before) {
			t.Fatalf("event %d has position %d, recorded %s after %s", i+1, e.Position, e.RecordedAt, before)
		}
		before = e.RecordedAt
		if f.versions[e.StreamID]++; f.versions[e.StreamID] != e.Version {
			t.Fatalf("position %d: version %d of %s, want %d", e.Position, e.Version, e.StreamID, f.versions[e.StreamID])
		}
		decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		old := f.accounts[e.StreamID]
		next, err := account.Evolve(old, decoded)
		if err != nil {
			t.Fatalf("position %d: %v", e.Position, err)
		}
		if err := allowed(old, next, decoded); err != nil {
			t.Fatalf("position %d: %v", e.Position, err)
		}
		f.accounts[e.StreamID] = next
		total += next.Balance - old.Balance
		inside += fromOutside(decoded)
		transit, err := inTransit(events, i)
		if err != nil {
			t.Fatal(err)
		}
		if total+transit != inside {
			t.Fatalf("position %d: the balances add up to %d and %d is in transit; %d came in", e.Position, total, transit, inside)
		}
		if err := ends.see(e.Position, decoded); err != nil {
			t.Fatal(err)
		}
	}
	open := 0
	for id, state := range f.accounts {
		sum := int64(0)
		for _, h := range state.Holds {
			if sum += h.Amount; !ends.open[h.ID] {
				t.Errorf("account %s has the hold %s, which has ended", id, h.ID)
			}
		}
		if open += len(state.Holds); sum != state.Held {
			t.Errorf("account %s has %d held, and holds of %d", id, state.Held, sum)
		}
	}
	if open != len(ends.open) {
		t.Errorf("%d holds are open, on the accounts %d", len(ends.open), open)
	}
	checkBySQL(t, pool, f)
	return f
}

// allowed states the rules once more, independently of package account.
func allowed(old, next account.State, e account.Event) error {
	switch e := e.(type) {
	case account.AccountCreated:
		return nil
	case account.AccountReactivated:
		if old.Status != account.Suspended {
			return fmt.Errorf("reactivated an account that is %s", old.Status)
		}
	case account.AccountClosed:
		if old.Balance != 0 || len(old.Holds) > 0 {
			return fmt.Errorf("closed at a balance of %d with %d holds", old.Balance, len(old.Holds))
		}
	case account.HoldReleased, account.HoldExpired:
	case account.CreditReversed:
		if e.Forced {
			return nil
		}
	default:
		if old.Status != account.Active {
			return fmt.Errorf("%s on an account that is %s", e.EventType(), old.Status)
		}
	}
	if next.Available() < min(0, old.Available()) {
		return fmt.Errorf("overdraft: balance %d with %d held and a limit of %d", next.Balance, next.Held, next.OverdraftLimit)
	}
	return nil
}

func fromOutside(e account.Event) int64 {
	switch e := e.(type) {
	case account.MoneyDeposited:
		return e.Amount.Minor()
	case account.MoneyWithdrawn:
		return -e.Amount.Minor()
	case account.CreditReversed:
		if e.TransferID == uuid.Nil {
			return -e.Amount.Minor()
		}
	case account.DebitReversed:
		if e.TransferID == uuid.Nil {
			return e.Amount.Minor()
		}
	}
	return 0
}

// side is one of the two events that move money between accounts: of a transfer, or of the reversal of one.
type side struct {
	id, account, other uuid.UUID
	by                 int64 // on the account
	second             bool
}

// sideOf returns the side that an event is, if it is one.
func sideOf(e *eventstore.Event) (side, bool) {
	decoded, err := eventjson.Decode(e.Type, e.SchemaVersion, e.Payload)
	if err != nil {
		return side{}, false
	}
	switch d := decoded.(type) {
	case account.TransferSent:
		return side{d.TransferID, e.StreamID, d.To, -d.Amount.Minor(), false}, true
	case account.TransferReceived:
		return side{d.TransferID, e.StreamID, d.From, d.Amount.Minor(), true}, true
	case account.CreditReversed:
		return side{d.ReversalID, e.StreamID, d.Counterparty, -d.Amount.Minor(), false}, d.TransferID != uuid.Nil
	case account.DebitReversed:
		return side{d.ReversalID, e.StreamID, d.Counterparty, d.Amount.Minor(), false}, d.TransferID != uuid.Nil
	}
	return side{}, false
}

// inTransit returns the amount in transit after event i, the first side of a transfer or of its reversal; 0 after any other
// event. It fails if the other side is not at the neighbouring position.
func inTransit(events []eventstore.Event, i int) (int64, error) {
	one, is := sideOf(&events[i])
	if !is {
		return 0, nil
	}
	matches := func(j int) bool {
		if j < 0 || j >= len(events) {
			return false
		}
		two, is := sideOf(&events[j])
		return is && two.id == one.id && two.by == -one.by && two.account == one.other && two.other == one.account
	}
	switch {
	case !one.second && matches(i+1):
		return -one.by, nil
	case matches(i - 1):
		return 0, nil
	}
	return 0, fmt.Errorf("position %d: half a transfer: %+v", events[i].Position, one)
}

// ends tracks what may happen only once, or only up to a sum: the use of transfer and hold ids, the ends of holds, and reversals.
type ends struct {
	used     map[uuid.UUID]bool
	open     map[uuid.UUID]bool
	moved    map[int64]int64 // what is left to reverse of a movement, by its position
	reversed int
}

func newEnds() *ends {
	return &ends{used: make(map[uuid.UUID]bool), open: make(map[uuid.UUID]bool), moved: make(map[int64]int64)}
}

// see returns an error if the event repeats something or reverses too much.
func (n *ends) see(position int64, e account.Event) error {
	use := func(id uuid.UUID) error {
		if n.used[id] {
			return fmt.Errorf("position %d uses an id again: %+v", position, e)
		}
		n.used[id] = true
		return nil
	}
	end := func(id uuid.UUID) error {
		if !n.open[id] {
			return fmt.Errorf("position %d ends a hold that is not open: %+v", position, e)
		}
		delete(n.open, id)
		return nil
	}
	back := func(r account.Reversal) error {
		n.reversed++
		if n.moved[r.ReversedPosition] -= r.Amount.Minor(); n.moved[r.ReversedPosition] < 0 {
			return fmt.Errorf("position %d reverses more than was moved: %+v", position, e)
		}
		return nil
	}
	switch d := e.(type) {
	case account.MoneyDeposited:
		n.moved[position] = d.Amount.Minor()
	case account.MoneyWithdrawn:
		n.moved[position] = d.Amount.Minor()
	case account.TransferReceived:
		n.moved[position] = d.Amount.Minor()
	case account.TransferSent:
		n.moved[position] = d.Amount.Minor()
		return use(d.TransferID)
	case account.HoldPlaced:
		n.open[d.HoldID] = true
		return use(d.HoldID)
	case account.HoldCaptured:
		return end(d.HoldID)
	case account.HoldReleased:
		return end(d.HoldID)
	case account.HoldExpired:
		return end(d.HoldID)
	case account.CreditReversed:
		return back(d.Reversal)
	case account.DebitReversed:
		return back(d.Reversal)
	}
	return nil
}

// checkBySQL compares with a second fold of the log, made in SQL without our code.
func checkBySQL(t testing.TB, pool *pgxpool.Pool, f folded) {
	t.Helper()
	rows, err := pool.Query(context.Background(), `
select stream_id, min(balance), max(version), count(*), (array_agg(balance order by position desc))[1]
from (select stream_id, version, position,
             sum(case when type in ('MoneyDeposited', 'TransferReceived', 'DebitReversed') then (payload->>'amount')::bigint
                      when type in ('MoneyWithdrawn', 'TransferSent', 'CreditReversed') then -(payload->>'amount')::bigint else 0 end)
                 over (partition by stream_id order by position)::bigint as balance
      from events) as e
group by stream_id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	accounts := 0
	for rows.Next() {
		var id uuid.UUID
		var lowest, version, count, balance int64
		if err := rows.Scan(&id, &lowest, &version, &count, &balance); err != nil {
			t.Fatal(err)
		}
		state := f.accounts[id]
		if lowest < -state.OverdraftLimit || version != count || balance != state.Balance {
			t.Errorf("account %s: lowest balance %d, version %d of %d events, balance %d; folded %+v",
				id, lowest, version, count, balance, state)
		}
		accounts++
	}
	if err := rows.Err(); err != nil || accounts != len(f.accounts) {
		t.Errorf("%d accounts by SQL, %d folded: %v", accounts, len(f.accounts), err)
	}
}

// inLog asserts that the log holds the events exactly as they are in the result.
func (f *folded) inLog(t testing.TB, result command.Result) {
	t.Helper()
	for _, r := range result.Events {
		if r.Position < 1 || r.Position > int64(len(f.events)) {
			t.Errorf("acknowledged position %d of %d", r.Position, len(f.events))
			continue
		}
		e := f.events[r.Position-1]
		if e.EventID != r.EventID || e.StreamID != r.AccountID || e.Version != r.Version || !e.RecordedAt.Equal(r.RecordedAt) {
			t.Errorf("acknowledged %+v, the log holds %+v", r, e)
		}
	}
}
