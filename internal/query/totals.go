package query

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
	"passbook/internal/readmodel/column"
)

// A transfer with only one side applied does not count yet: what was sent and not received still belongs to the sender.
const totalsSQL = `select p.position, t.currency, t.accounts, (t.balance + t.sent - t.received)::text, t.deposited::text,
       t.withdrawn::text
from live_generations p left join totals t on t.generation = p.generation
where p.projection = '` + column.Totals + `'
order by t.currency`

// Totals returns the totals of each currency, in the order of their codes, and the position the read model had applied. The
// error is ErrBehind when the wait ended first.
func (s *Service) Totals(ctx context.Context, w Wait) ([]Total, int64, error) {
	var all []*Total
	applied, err := s.monotonic(ctx, &s.totals, w, func() (applied int64, err error) {
		all, applied, err = s.readTotals(ctx)
		return applied, err
	})
	if err != nil {
		return nil, applied, err
	}
	totals := make([]Total, 0, len(all))
	for _, t := range all {
		if t != nil {
			totals = append(totals, *t)
		}
	}
	return totals, applied, nil
}

func (s *Service) readTotals(ctx context.Context) (all []*Total, applied int64, err error) {
	err = withRetry(ctx, s.pool, func(ctx context.Context) (err error) {
		rows, _ := s.pool.Query(ctx, totalsSQL)
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Total, error) {
			var (
				code, balance, deposited, withdrawn *string
				accounts                            *int64
			)
			if err := row.Scan(&applied, &code, &accounts, &balance, &deposited, &withdrawn); err != nil || code == nil {
				return nil, err // no code: no account was ever opened
			}
			return totalOf(*code, *accounts, *balance, *deposited, *withdrawn)
		})
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("query: totals: %w", err)
	}
	return all, applied, nil
}

func totalOf(code string, accounts int64, balance, deposited, withdrawn string) (*Total, error) {
	currency, ok := money.LookupCurrency(code)
	if !ok {
		return nil, fmt.Errorf("a total has the unknown currency %q", code)
	}
	t := &Total{Currency: currency, Accounts: accounts}
	magnitude, overdrawn := strings.CutPrefix(balance, "-")
	for _, sum := range []struct {
		to    *string
		minor string
	}{{&t.Balance, magnitude}, {&t.Deposited, deposited}, {&t.Withdrawn, withdrawn}} {
		text, err := decimal(sum.minor, currency)
		if err != nil {
			return nil, err
		}
		*sum.to = text
	}
	if overdrawn {
		t.Balance = "-" + t.Balance
	}
	return t, nil
}
