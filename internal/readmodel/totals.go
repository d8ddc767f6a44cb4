package readmodel

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/readmodel/column"
)

// Totals is the read model behind GET /totals, the trial balance, with a row for each currency.
func Totals() *projector.Projection {
	p := projector.Define(column.Totals, 1, []string{"totals"}, func() projector.Fold { return totals{} })
	p.BatchDelay = relaxedDelay
	projector.On(p, func(t totals, _ projector.Event, e account.AccountCreated) error {
		t.of(e.Currency).accounts++
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.MoneyDeposited) error {
		c := t.of(e.Amount.Currency())
		c.deposited.add(e.Amount.Minor())
		c.balance.add(e.Amount.Minor())
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.MoneyWithdrawn) error {
		c := t.of(e.Amount.Currency())
		c.withdrawn.add(e.Amount.Minor())
		c.balance.sub(e.Amount.Minor())
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.TransferSent) error {
		c := t.of(e.Amount.Currency())
		c.sent.add(e.Amount.Minor())
		c.balance.sub(e.Amount.Minor())
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.TransferReceived) error {
		c := t.of(e.Amount.Currency())
		c.received.add(e.Amount.Minor())
		c.balance.add(e.Amount.Minor())
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.CreditReversed) error {
		c := t.of(e.Amount.Currency())
		reversed(e.Reversal, &c.deposited, &c.received).sub(e.Amount.Minor())
		c.balance.sub(e.Amount.Minor())
		return nil
	})
	projector.On(p, func(t totals, _ projector.Event, e account.DebitReversed) error {
		c := t.of(e.Amount.Currency())
		reversed(e.Reversal, &c.withdrawn, &c.sent).sub(e.Amount.Minor())
		c.balance.add(e.Amount.Minor())
		return nil
	})
	return p
}

const addTotalsSQL = `insert into totals as t (generation, currency, accounts, deposited, withdrawn, sent, received, balance)
select $1, u.* from unnest($2::text[], $3::bigint[], $4::text[]::numeric[], $5::text[]::numeric[], $6::text[]::numeric[],
    $7::text[]::numeric[], $8::text[]::numeric[]) as u
on conflict (generation, currency) do update
set accounts = t.accounts + excluded.accounts, deposited = t.deposited + excluded.deposited,
    withdrawn = t.withdrawn + excluded.withdrawn, sent = t.sent + excluded.sent, received = t.received + excluded.received,
    balance = t.balance + excluded.balance`

// totals folds a batch: what it adds to each currency, by its code.
type totals map[string]*currencyTotals

type currencyTotals struct {
	accounts                                      int64
	deposited, withdrawn, sent, received, balance sum
}

func (t totals) of(c money.Currency) *currencyTotals {
	row, ok := t[c.Code()]
	if !ok {
		row = new(currencyTotals)
		t[c.Code()] = row
	}
	return row
}

// reversed returns the sum that the movement counted in: outside for money from or to outside, or transfers.
func reversed(r account.Reversal, outside, transfers *sum) *sum {
	if r.TransferID == uuid.Nil {
		return outside
	}
	return transfers
}

// Flush implements projector.Fold.
func (t totals) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if len(t) == 0 {
		return nil
	}
	var (
		accounts                                      []int64
		deposited, withdrawn, sent, received, balance []string
	)
	currencies := slices.Sorted(maps.Keys(t))
	for _, code := range currencies {
		row := t[code]
		accounts = append(accounts, row.accounts)
		deposited = append(deposited, row.deposited.String())
		withdrawn = append(withdrawn, row.withdrawn.String())
		sent = append(sent, row.sent.String())
		received = append(received, row.received.String())
		balance = append(balance, row.balance.String())
	}
	_, err := tx.Exec(ctx, addTotalsSQL, generation, currencies, accounts, deposited, withdrawn, sent, received, balance)
	if err != nil {
		return fmt.Errorf("totals: %w", err)
	}
	return nil
}
