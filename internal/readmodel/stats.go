package readmodel

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/projector"
)

// Stats is the read model behind GET /stats. It is held in memory: a minute of seconds, and the accounts that are
// suspended just now, whose closing is to be told from that of an active one.
type Stats struct{ *projector.Memory[*stats] }

// NewStats makes the read model, empty; each engine needs one of its own.
func NewStats() Stats {
	m := projector.DefineMemory("stats", 1, newStats)
	p := m.Projection
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountCreated) error {
		s.happened(at)
		s.active++
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountSuspended) error {
		s.happened(at)
		s.active--
		s.suspended[at.StreamID] = struct{}{}
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountReactivated) error {
		s.happened(at)
		s.active++
		delete(s.suspended, at.StreamID)
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountClosed) error {
		s.happened(at)
		if _, suspended := s.suspended[at.StreamID]; suspended {
			delete(s.suspended, at.StreamID)
		} else {
			s.active--
		}
		s.closed++
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, e account.MoneyDeposited) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, e account.MoneyWithdrawn) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, e account.TransferSent) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, _ account.TransferReceived) error { // the same money
		s.happened(at)
		return nil
	})
	return Stats{m}
}

// statsSeconds is how many seconds are remembered: one more than are told of, for the one that is not over.
const statsSeconds = 61

type stats struct {
	seconds        [statsSeconds]second // by Unix time modulo their number
	active, closed int64
	suspended      map[uuid.UUID]struct{}
}

// second is what was recorded in one second of the database's clock.
type second struct {
	unix   int64
	events int64
	moved  map[money.Currency]*moved
}

type moved struct {
	amount    sum
	movements int64
}

func newStats() *stats { return &stats{suspended: make(map[uuid.UUID]struct{})} }

// happened counts an event and answers its second. Seconds never go back, since the log's do not.
func (s *stats) happened(at projector.Event) *second {
	unix := at.RecordedAt.Unix()
	one := &s.seconds[unix%statsSeconds]
	if one.unix != unix {
		*one = second{unix: unix}
	}
	one.events++
	return one
}

func (s *stats) move(at projector.Event, amount money.Amount) error {
	one := s.happened(at)
	if one.moved == nil {
		one.moved = make(map[money.Currency]*moved)
	}
	m := one.moved[amount.Currency()]
	if m == nil {
		m = new(moved)
		one.moved[amount.Currency()] = m
	}
	m.amount.add(amount.Minor())
	m.movements++
	return nil
}

// Snapshot is the statistics as they stand at a moment.
type Snapshot struct {
	// Position is the last that was applied.
	Position int64
	// Last1, Last10 and Last60 are events a second over so many whole seconds before the moment.
	Last1, Last10, Last60 float64
	// Active, Suspended and Closed count the accounts.
	Active, Suspended, Closed int64
	// Moved has the currencies in which money was moved in the last 60 whole seconds, in the order of their codes.
	Moved []Moved
}

// Moved is the money moved in one currency.
type Moved struct {
	Currency string
	// Amount is in decimal, with the currency's digits; it has no bound.
	Amount    string
	Movements int64
}

// At answers the statistics as they stand at a moment, which is to be now by the database's clock.
func (s Stats) At(now time.Time) Snapshot {
	var out Snapshot
	s.Read(func(model *stats, position int64) {
		out = model.at(now.Unix())
		out.Position = position
	})
	return out
}

func (s *stats) at(now int64) Snapshot {
	var events [statsSeconds]int64 // by age in seconds
	totals := make(map[money.Currency]*moved)
	for i := range s.seconds {
		one := &s.seconds[i]
		age := now - one.unix
		if age < 1 || age >= statsSeconds {
			continue
		}
		events[age] = one.events
		for currency, m := range one.moved {
			total := totals[currency]
			if total == nil {
				total = new(moved)
				totals[currency] = total
			}
			total.amount.join(&m.amount)
			total.movements += m.movements
		}
	}
	rate := func(seconds int) float64 {
		var n int64
		for _, one := range events[1 : seconds+1] {
			n += one
		}
		return float64(n) / float64(seconds)
	}
	out := Snapshot{
		Last1: rate(1), Last10: rate(10), Last60: rate(60),
		Active: s.active, Suspended: int64(len(s.suspended)), Closed: s.closed,
	}
	for currency, m := range totals {
		out.Moved = append(out.Moved, Moved{currency.Code(), decimal(m.amount.String(), currency.Exponent()), m.movements})
	}
	slices.SortFunc(out.Moved, func(a, b Moved) int { return cmp.Compare(a.Currency, b.Currency) })
	return out
}

// decimal puts the point into the digits of a number of minor units that is not negative.
func decimal(digits string, exponent int) string {
	if exponent == 0 {
		return digits
	}
	if missing := exponent + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	point := len(digits) - exponent
	return digits[:point] + "." + digits[point:]
}
