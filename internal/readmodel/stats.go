package readmodel

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/readmodel/column"
)

// Stats is the read model behind GET /stats: the events and the money of each recent second, and the accounts by status.
func Stats() *projector.Projection {
	p := projector.Define(column.Stats, 1, []string{"stats_seconds", "stats_accounts", "stats_suspended"},
		func() projector.Fold { return newStats() })
	p.BatchDelay = statsBatchDelay
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountCreated) error {
		s.count(at)
		s.opened++
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountSuspended) error {
		s.count(at)
		s.suspended[at.StreamID] = true
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountReactivated) error {
		s.count(at)
		s.suspended[at.StreamID] = false
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, _ account.AccountClosed) error {
		s.count(at)
		s.suspended[at.StreamID] = false
		s.closed++
		return nil
	})
	projector.On(p, func(s *stats, at projector.Event, e account.MoneyDeposited) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, e account.MoneyWithdrawn) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, e account.TransferSent) error { return s.move(at, e.Amount) })
	projector.On(p, countOnly[account.TransferReceived]) // counted with TransferSent
	projector.On(p, func(s *stats, at projector.Event, e account.CreditReversed) error { return s.move(at, e.Amount) })
	projector.On(p, func(s *stats, at projector.Event, e account.DebitReversed) error {
		if e.TransferID != uuid.Nil { // counted with CreditReversed
			s.count(at)
			return nil
		}
		return s.move(at, e.Amount)
	})
	projector.On(p, countOnly[account.OwnerChanged])
	projector.On(p, countOnly[account.OverdraftLimitChanged])
	projector.On(p, countOnly[account.MetadataChanged])
	projector.On(p, countOnly[account.SubjectErased])
	projector.On(p, countOnly[account.HoldPlaced])
	projector.On(p, countOnly[account.HoldCaptured])
	projector.On(p, countOnly[account.HoldReleased])
	projector.On(p, countOnly[account.HoldExpired])
	return p
}

// statsBatchDelay is long: a batch costs about the same whatever its size, and statistics may be a tenth of a second old.
const statsBatchDelay = 100 * time.Millisecond

// statsSlots is how many seconds are kept. GET /stats reports 60 and leaves out the current one; the others allow for
// a clock that is a few seconds behind.
const statsSlots = 64

const (
	// A second overwrites the row of the one statsSlots seconds before it, so the table stays small.
	addSecondsSQL = `insert into stats_seconds as t (generation, slot, currency, second, events, movements, amount)
select $1, u.* from unnest($2::smallint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[]::numeric[]) as u
on conflict (generation, slot, currency) do update
set second = excluded.second,
    events = excluded.events + case when t.second = excluded.second then t.events else 0 end,
    movements = excluded.movements + case when t.second = excluded.second then t.movements else 0 end,
    amount = excluded.amount + case when t.second = excluded.second then t.amount else 0 end
where t.second <= excluded.second`

	// A closed account may have been active or suspended before; stats_suspended tells.
	addAccountsSQL = `with suspended as (
    insert into stats_suspended (generation, account_id) select $1, * from unnest($2::uuid[]) on conflict do nothing returning 1
), others as (
    delete from stats_suspended where generation = $1 and account_id = any ($3::uuid[]) returning 1
)
insert into stats_accounts as t (generation, opened, suspended, closed)
select $1, $4, (select count(*) from suspended) - (select count(*) from others), $5
on conflict (generation) do update
set opened = t.opened + excluded.opened, suspended = t.suspended + excluded.suspended, closed = t.closed + excluded.closed`
)

// stats folds a batch.
type stats struct {
	seconds        map[statsKey]*statsSecond
	opened, closed int64
	suspended      map[uuid.UUID]bool // whether the account was suspended after the batch, if that may have changed
}

// statsKey is the key of a row of stats_seconds. Events that move no money, or money counted already, have no currency.
type statsKey struct {
	slot     int16
	currency string
}

type statsSecond struct {
	second            int64 // Unix time
	events, movements int64
	amount            sum
}

func newStats() *stats {
	return &stats{seconds: make(map[statsKey]*statsSecond), suspended: make(map[uuid.UUID]bool)}
}

// second returns the row for events of a currency in the event's second, or nil when a later second has taken its slot.
func (s *stats) second(at projector.Event, currency string) *statsSecond {
	second := at.RecordedAt.Unix()
	key := statsKey{int16(second % statsSlots), currency}
	row := s.seconds[key]
	switch {
	case row == nil:
		row = &statsSecond{second: second}
		s.seconds[key] = row
	case row.second < second:
		*row = statsSecond{second: second}
	case row.second > second:
		return nil
	}
	return row
}

// countOnly handles an event that moves no money, or money that is counted with another event.
func countOnly[E projector.Content](s *stats, at projector.Event, _ E) error {
	s.count(at)
	return nil
}

func (s *stats) count(at projector.Event) {
	if row := s.second(at, ""); row != nil {
		row.events++
	}
}

func (s *stats) move(at projector.Event, amount money.Amount) error {
	if row := s.second(at, amount.Currency().Code()); row != nil {
		row.events++
		row.movements++
		row.amount.add(amount.Minor())
	}
	return nil
}

// Rows implements projector.Sized.
func (s *stats) Rows() int { return len(s.seconds) + len(s.suspended) }

// Flush implements projector.Fold.
func (s *stats) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if err := s.flushSeconds(ctx, tx, generation); err != nil {
		return fmt.Errorf("stats: seconds: %w", err)
	}
	if err := s.flushAccounts(ctx, tx, generation); err != nil {
		return fmt.Errorf("stats: accounts: %w", err)
	}
	return nil
}

func (s *stats) flushSeconds(ctx context.Context, tx pgx.Tx, generation int64) error {
	var (
		slots                      []int16
		currencies, amounts        []string
		seconds, events, movements []int64
	)
	for key, row := range s.seconds {
		slots = append(slots, key.slot)
		currencies = append(currencies, key.currency)
		seconds = append(seconds, row.second)
		events = append(events, row.events)
		movements = append(movements, row.movements)
		amounts = append(amounts, row.amount.String())
	}
	_, err := tx.Exec(ctx, addSecondsSQL, generation, slots, currencies, seconds, events, movements, amounts)
	return err
}

// flushAccounts writes nothing for a batch that only moves money, as most do.
func (s *stats) flushAccounts(ctx context.Context, tx pgx.Tx, generation int64) error {
	if s.opened == 0 && len(s.suspended) == 0 {
		return nil
	}
	var suspended, others [][16]byte // pgx encodes [16]byte directly, and uuid.UUID through its text form
	for id, is := range s.suspended {
		if is {
			suspended = append(suspended, id)
		} else {
			others = append(others, id)
		}
	}
	_, err := tx.Exec(ctx, addAccountsSQL, generation, suspended, others, s.opened, s.closed)
	return err
}
