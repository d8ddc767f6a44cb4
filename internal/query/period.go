package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// Period is an account over a period: its balances at the beginning and at the end, and the positions of both in the log. It never
// changes later, and neither do the movements that PeriodMovements returns for it.
type Period struct {
	AccountID uuid.UUID
	// Owner is the owner at the end.
	Owner    string
	Currency money.Currency
	// From is included; nil is the opening of the account. To is not included.
	From *time.Time
	To   time.Time
	// FromPosition is the last position before From, 0 if the account was not open by then; ToPosition is the last one before To.
	FromPosition, ToPosition int64
	// Opening and Closing are balances in minor units of Currency.
	Opening, Closing int64
}

// Period returns the period of an account between two times. Without from it begins with the account, and without to it ends now,
// by the clock of the database, or on a follower at the last event. The position that the read model had applied is valid with ErrNotFound too. The errors are those
// of BalanceAt.
func (s *Service) Period(ctx context.Context, id uuid.UUID, from, to *time.Time, w Wait) (Period, int64, error) {
	p := Period{AccountID: id}
	if to == nil {
		now, err := s.now(ctx)
		if err != nil {
			return Period{}, 0, err
		}
		to = &now
	}
	p.To = ceiling(*to)
	bounds := []bound{{"to", before(p.To)}}
	if from != nil {
		p.From = new(ceiling(*from))
		bounds = append(bounds, bound{"from", before(*p.From)})
	}
	positions, err := s.positionsAt(ctx, &w, bounds...)
	if err != nil {
		return Period{}, 0, err
	}
	p.ToPosition = positions[0]
	end, applied, err := s.BalanceAt(ctx, id, AsOf{Position: p.ToPosition}, w)
	if err != nil {
		return Period{}, applied, err
	}
	p.Owner, p.Currency, p.Closing = end.Owner, end.Currency, end.Balance
	if from == nil {
		return p, applied, nil
	}
	begin, applied, err := s.BalanceAt(ctx, id, AsOf{Position: positions[1]}, w)
	switch {
	case errors.Is(err, ErrNotFound): // the account was opened later
		return p, applied, nil
	case err != nil:
		return Period{}, applied, err
	}
	p.FromPosition, p.Opening = positions[1], begin.Balance
	return p, applied, nil
}

const (
	nowSQL          = `select clock_timestamp()`
	lastRecordedSQL = `select coalesce((select recorded_at from events order by position desc limit 1), clock_timestamp())`
)

// now returns the time of the database that decides what is in the future; on a follower, that of the last event.
func (s *Service) now(ctx context.Context) (now time.Time, err error) {
	sql := nowSQL
	if s.follower {
		sql = lastRecordedSQL
	}
	err = withRetry(ctx, s.primary, func(ctx context.Context) error {
		return s.primary.QueryRow(ctx, sql).Scan(&now)
	})
	if err != nil {
		return now, fmt.Errorf("query: now: %w", err)
	}
	return now.UTC(), nil
}

// ceiling rounds a time up to the microseconds that the log keeps: an event was recorded before the result exactly if it was
// recorded before t.
func ceiling(t time.Time) time.Time { return before(t).Add(time.Microsecond).UTC() }

// PeriodMovements returns the movements of a period after a position, oldest first, at most limit of them; limit is at most 500.
// If it returns fewer than limit, there are no more. Their ReversedBy is nil and their ReversedAmount 0, since both may change later.
func (s *Service) PeriodMovements(ctx context.Context, p *Period, after int64, limit int) ([]Transaction, error) {
	l := newStatementList(p.AccountID, StatementFilter{Sort: "recorded_at", Limit: limit})
	l.and("t.position > %s", max(after, p.FromPosition))
	l.and("t.position <= %s", p.ToPosition)
	l.ofList = len(l.where)
	l.parked = "f.stream_id = $1 and f.position <= $3"
	page, _, err := s.movements(ctx, l, Wait{MinPosition: p.ToPosition})
	if err != nil {
		return nil, err
	}
	for i := range page.movements {
		page.movements[i].ReversedBy, page.movements[i].ReversedAmount = nil, 0
	}
	return page.movements, nil
}
