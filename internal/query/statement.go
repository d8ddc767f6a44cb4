package query

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
)

// Statement returns a page of an account's movements and the position the read model had applied. The position is valid
// with ErrNotFound too. The error is ErrBehind when the wait ended first, ErrBadCursor when the cursor was not made for
// this account and order, and *FutureError when From or To is in the future.
func (s *Service) Statement(ctx context.Context, id uuid.UUID, f StatementFilter, w Wait) (Statement, int64, error) {
	l := newStatementList(id, f)
	var after int64
	if f.Cursor != "" {
		var err error
		if after, err = parseStatementCursor(f.Cursor, id, l.oldestFirst); err != nil {
			return Statement{}, 0, err
		}
	}
	if err := s.bound(ctx, l, f.From, f.To, &w); err != nil {
		return Statement{}, 0, err
	}
	l.ofList = len(l.where)
	if f.Cursor != "" {
		l.after(after)
	}
	l.parked = "f.stream_id = $1 and f.position <= " + l.asOf
	page, applied, err := s.movements(ctx, l, w)
	switch {
	case err != nil:
		return Statement{}, applied, err
	case page.currency == "" && f.To != nil:
		return Statement{}, applied, ErrNotOpenThen
	case page.currency == "":
		return Statement{}, applied, ErrNotFound
	}
	statement := Statement{AccountID: id, Transactions: page.movements, Total: page.total()}
	var ok bool
	if statement.Currency, ok = money.LookupCurrency(page.currency); !ok {
		return Statement{}, applied, fmt.Errorf("query: account %s has the unknown currency %q", id, page.currency)
	}
	if page.more {
		statement.Next = statementCursor(id, l.oldestFirst, page.movements[l.limit-1].Position)
	}
	return statement, applied, nil
}

// bound turns the times of a filter into conditions on positions, and makes w wait for that of To.
func (s *Service) bound(ctx context.Context, l *movementList, from, to *time.Time, w *Wait) error {
	var bounds []bound
	if from != nil {
		bounds = append(bounds, bound{"from", before(*from)})
	}
	if to != nil {
		bounds = append(bounds, bound{"to", before(*to)})
	}
	if len(bounds) == 0 {
		return nil
	}
	positions, err := s.positionsAt(ctx, w, bounds...)
	if err != nil {
		return err
	}
	if from != nil {
		l.and("t.position > %s", positions[0])
	}
	if to != nil {
		position := positions[len(positions)-1]
		l.and("t.position <= %s", position)
		l.asOf = "$" + strconv.Itoa(len(l.args)) + "::bigint"
		w.MinPosition = max(w.MinPosition, position)
	}
	return nil
}

// movements reads a page of a list.
func (s *Service) movements(ctx context.Context, l *movementList, w Wait) (page *movementPage, applied int64, err error) {
	applied, err = s.monotonic(ctx, &s.transactions, w, func() (int64, error) {
		err := withRetry(ctx, s.pool, func(ctx context.Context) (err error) {
			// The statement is planned for its arguments. There are as many statements as combinations of filters, and a generic plan
			// could not tell a rare reference from one that every movement has.
			rows, _ := s.pool.Query(ctx, l.sql(), append([]any{pgx.QueryExecModeCacheDescribe}, l.args...)...)
			page, err = l.collect(rows)
			return err
		})
		switch {
		case err != nil:
			return 0, fmt.Errorf("query: movements: %w", err)
		case page.parked:
			return page.applied, ErrBehind
		}
		return page.applied, nil
	})
	return page, applied, err
}

// newStatementList selects the movements of an account.
func newStatementList(id uuid.UUID, f StatementFilter) *movementList {
	l := &movementList{oldestFirst: f.Sort == "recorded_at", limit: min(max(f.Limit, 1), maxLimit), count: f.Count, account: "$1", asOf: "null"}
	l.and("t.account_id = %s", id)
	l.ofKind(f.Kind)
	return l
}

// before returns the last microsecond before a time: the latest recorded_at that is earlier.
func before(t time.Time) time.Time {
	at := t.Truncate(time.Microsecond)
	if at.Equal(t) {
		return at.Add(-time.Microsecond)
	}
	return at
}

// statementCursor encodes a place in an account's statement: a letter for the order, the account, and the position of the
// last movement of the page.
func statementCursor(id uuid.UUID, oldestFirst bool, position int64) string {
	raw := append([]byte{orderLetter(oldestFirst)}, id[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(position)) //nolint:gosec // positions are above zero
	return base64.RawURLEncoding.EncodeToString(raw)
}

// parseStatementCursor is the inverse of statementCursor. It returns ErrBadCursor for every text that was not made for
// the account and the order.
func parseStatementCursor(text string, id uuid.UUID, oldestFirst bool) (position int64, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != 1+len(id)+8 {
		return 0, ErrBadCursor
	}
	position = int64(binary.BigEndian.Uint64(raw[1+len(id):])) //nolint:gosec // one that does not fit is rejected below
	// The decoder is lenient about stray bits and line breaks.
	if position <= 0 || statementCursor(id, oldestFirst, position) != text {
		return 0, ErrBadCursor
	}
	return position, nil
}

func orderLetter(oldestFirst bool) byte {
	if oldestFirst {
		return 'a'
	}
	return 'd'
}
