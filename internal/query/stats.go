package query

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
	"passbook/internal/readmodel/column"
)

// Stats is what happened in the last whole seconds before a time, and the number of accounts by status.
type Stats struct {
	// AsOf is the time, by the clock of the database.
	AsOf time.Time
	// Last1, Last10 and Last60 are events a second over that many seconds.
	Last1, Last10, Last60 float64
	// Active, Suspended and Closed count the accounts.
	Active, Suspended, Closed int64
	// Moved has the currencies in which money was moved in the last 60 seconds, in the order of their codes.
	Moved []Moved
}

// Moved is the money moved in one currency.
type Moved struct {
	Currency money.Currency
	// Amount is decimal text ("12.34"); it has no bound.
	Amount    string
	Movements int64
}

// There is at least one row, so that the time is always known. $1 is the time, or null for now.
const statsSQL = `select c.now, coalesce(p.position, 0), coalesce(a.opened - a.suspended - a.closed, 0), coalesce(a.suspended, 0),
       coalesce(a.closed, 0), coalesce(s.currency, ''), coalesce(s.last1, 0), coalesce(s.last10, 0), coalesce(s.last60, 0),
       coalesce(s.movements, 0), coalesce(s.amount, 0)::text
from (select now, floor(extract(epoch from now))::bigint as second from coalesce($1::timestamptz, now()) as now) as c
left join live_generations p on p.projection = '` + column.Stats + `'
left join stats_accounts a on a.generation = p.generation
left join lateral (
    select currency, sum(events) filter (where second >= c.second - 1)::bigint as last1,
        sum(events) filter (where second >= c.second - 10)::bigint as last10, sum(events)::bigint as last60,
        sum(movements)::bigint as movements, sum(amount) as amount
    from stats_seconds where generation = p.generation and second between c.second - 60 and c.second - 1
    group by currency) as s on true
order by s.currency`

// Stats returns the live statistics and the position the read model had applied. The error is ErrBehind when the wait
// ended first.
func (s *Service) Stats(ctx context.Context, w Wait) (Stats, int64, error) {
	return s.statsAt(ctx, nil, w)
}

func (s *Service) statsAt(ctx context.Context, now *time.Time, w Wait) (stats Stats, applied int64, err error) {
	applied, err = s.monotonic(ctx, &s.stats, w, func() (applied int64, err error) {
		stats, applied, err = s.readStats(ctx, now)
		return applied, err
	})
	if err != nil {
		return Stats{}, applied, err
	}
	return stats, applied, nil
}

func (s *Service) readStats(ctx context.Context, now *time.Time) (stats Stats, applied int64, err error) {
	err = withRetry(ctx, s.pool, func(ctx context.Context) (err error) {
		rows, _ := s.pool.Query(ctx, statsSQL, now)
		stats, applied, err = collectStats(rows)
		return err
	})
	if err != nil {
		return Stats{}, 0, fmt.Errorf("query: stats: %w", err)
	}
	return stats, applied, nil
}

// collectStats adds up the rows, one for each currency.
func collectStats(rows pgx.Rows) (stats Stats, applied int64, err error) {
	var (
		currency, amount                 string
		last1, last10, last60, movements int64
		total1, total10, total60         int64
	)
	_, err = pgx.ForEachRow(rows, []any{
		&stats.AsOf, &applied, &stats.Active, &stats.Suspended, &stats.Closed,
		&currency, &last1, &last10, &last60, &movements, &amount,
	}, func() error {
		total1, total10, total60 = total1+last1, total10+last10, total60+last60
		if movements == 0 {
			return nil
		}
		moved, err := movedOf(currency, amount, movements)
		stats.Moved = append(stats.Moved, moved)
		return err
	})
	stats.AsOf = stats.AsOf.UTC()
	stats.Last1, stats.Last10, stats.Last60 = float64(total1), float64(total10)/10, float64(total60)/60
	return stats, applied, err
}

func movedOf(code, amount string, movements int64) (Moved, error) {
	currency, ok := money.LookupCurrency(code)
	if !ok {
		return Moved{}, fmt.Errorf("money was moved in the unknown currency %q", code)
	}
	text, err := decimal(amount, currency)
	return Moved{Currency: currency, Amount: text, Movements: movements}, err
}
