package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
	"passbook/internal/readmodel/column"
)

const (
	// The last row at or before the position is the account as of then, and so is the last row of its details. There is none before
	// it was opened.
	balanceAtSQL = `select p.position, ` + parkedSQL + `, a.owner, a.currency, a.overdraft_limit, a.metadata,
       t.balance, t.held, t.status, t.version, t.position, t.recorded_at
from live_generations p
left join lateral (
    select owner, currency, overdraft_limit, metadata
    from account_details
    where generation = p.generation and account_id = $1 and position <= $2
    order by position desc limit 1) as a on true
left join lateral (
    select balance, held, status, version, position, recorded_at
    from transactions
    where generation = p.generation and account_id = $1 and position <= $2
    order by position desc limit 1) as t on true
where p.projection = '` + column.Transactions + `'`
)

// BalanceAt returns an account as of a point in the past, and the position the read model had applied, which is valid with
// ErrNotFound too. If the read model has not reached that point, it waits as for the MinPosition of a Wait, and returns
// ErrBehind when the wait ended first. The error is *FutureError for a time in the future, and *ArchivedError for one
// whose events are in the archive. A result never changes later.
//
// A time stands for the position of the last event recorded at or before it.
func (s *Service) BalanceAt(ctx context.Context, id uuid.UUID, at AsOf, w Wait) (BalanceAt, int64, error) {
	position := at.Position
	if !at.Time.IsZero() {
		positions, err := s.positionsAt(ctx, &w, bound{"at", at.Time})
		if err != nil {
			return BalanceAt{}, 0, err
		}
		position = positions[0]
	}
	w.MinPosition = max(w.MinPosition, position)
	var b BalanceAt
	applied, err := s.monotonic(ctx, &s.transactions, w, func() (applied int64, err error) {
		b, applied, err = s.balanceAt(ctx, id, position)
		return applied, err
	})
	switch {
	case err != nil:
		return BalanceAt{}, applied, err
	case b.ID == uuid.Nil:
		return BalanceAt{}, applied, ErrNotOpenThen
	}
	return b, applied, nil
}

// balanceAt reads an account as of a position; the result is zero when the account was not open by then.
func (s *Service) balanceAt(ctx context.Context, id uuid.UUID, position int64) (BalanceAt, int64, error) {
	var (
		applied                                   int64
		parked                                    bool
		owner, currency                           *string
		metadata                                  map[string]string
		status                                    *column.StatusCode
		overdraft, balance, held, version, lastAt *int64
		recordedAt                                *time.Time
	)
	err := withRetry(ctx, s.pool, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, balanceAtSQL, id, position).
			Scan(&applied, &parked, &owner, &currency, &overdraft, &metadata, &balance, &held, &status, &version, &lastAt, &recordedAt)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows): // the projection has never run
		return BalanceAt{}, 0, nil
	case err != nil:
		return BalanceAt{}, 0, fmt.Errorf("query: balance at: %w", err)
	case parked:
		return BalanceAt{}, applied, ErrBehind
	case owner == nil, lastAt == nil:
		return BalanceAt{}, applied, nil
	}
	c, ok := money.LookupCurrency(*currency)
	if !ok {
		return BalanceAt{}, applied, fmt.Errorf("query: account %s has the unknown currency %q", id, *currency)
	}
	return BalanceAt{
		ID: id, Owner: *owner, Currency: c, Balance: *balance, Overdraft: *overdraft, Held: *held, Metadata: metadata, Status: string(status.Status()),
		Version: *version, Position: *lastAt, UpdatedAt: recordedAt.UTC(),
	}, applied, nil
}
