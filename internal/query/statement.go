package query

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
	"passbook/internal/readmodel/column"
)

// movementKinds are the kinds of rows that move money, by their names in the API.
var movementKinds = map[string]column.Kind{
	"deposit": column.Deposit, "withdrawal": column.Withdrawal, "transfer_in": column.TransferIn, "transfer_out": column.TransferOut,
}

const isMovement = "kind in ('" + string(column.Deposit) + "', '" + string(column.Withdrawal) + "', '" +
	string(column.TransferIn) + "', '" + string(column.TransferOut) + "')"

// statementSQL reads a page in one statement, and so in one snapshot: the checkpoint and the generation, whether the
// account exists, and the rows. There is at least one row, all null but for the position. $2 is the position that the
// statement is as of, or null.
const statementSQL = `select p.position, ` + parkedSQL + `, a.currency, t.kind, t.amount, t.balance, t.counterparty, t.transfer_id, t.reference, t.version,
       t.position, t.recorded_at
from live_generations p
left join lateral (
    select currency
    from account_details
    where generation = p.generation and account_id = $1 and ($2::bigint is null or position <= $2)
    order by position limit 1) as a on true
left join lateral (
    select kind, amount, balance, counterparty, transfer_id, reference, version, position, recorded_at
    from transactions
    where generation = p.generation and account_id = $1 and %s
    order by position %s limit %d) as t on true
where p.projection = '` + column.Transactions + `'
order by t.position %[2]s`

// Statement returns a page of an account's movements and the position the read model had applied. The position is valid
// with ErrNotFound too. The error is ErrBehind when the wait ended first, ErrBadCursor when the cursor was not made for
// this account and order, and *FutureError when From or To is in the future.
func (s *Service) Statement(ctx context.Context, id uuid.UUID, f StatementFilter, w Wait) (Statement, int64, error) {
	l, err := newStatementList(id, f)
	if err != nil {
		return Statement{}, 0, err
	}
	if err := s.bound(ctx, l, f, &w); err != nil {
		return Statement{}, 0, err
	}
	var page Statement
	applied, err := s.monotonic(ctx, &s.transactions, w, func() (applied int64, err error) {
		page, applied, err = s.statement(ctx, l)
		return applied, err
	})
	switch {
	case err != nil:
		return Statement{}, applied, err
	case page.AccountID == uuid.Nil && f.To != nil:
		return Statement{}, applied, ErrNotOpenThen
	case page.AccountID == uuid.Nil:
		return Statement{}, applied, ErrNotFound
	}
	return page, applied, nil
}

// bound turns the times of a filter into positions, and has w wait for that of To.
func (s *Service) bound(ctx context.Context, l *statementList, f StatementFilter, w *Wait) error {
	var bounds []bound
	if f.From != nil {
		bounds = append(bounds, bound{"from", before(*f.From)})
	}
	if f.To != nil {
		bounds = append(bounds, bound{"to", before(*f.To)})
	}
	if len(bounds) == 0 {
		return nil
	}
	positions, err := s.positionsAt(ctx, w, bounds...)
	if err != nil {
		return err
	}
	if f.From != nil {
		l.and("position > %s", positions[0])
	}
	if f.To != nil {
		to := positions[len(positions)-1]
		l.args[1] = &to
		l.where = append(l.where, "position <= $2")
		w.MinPosition = max(w.MinPosition, to)
	}
	return nil
}

func (s *Service) statement(ctx context.Context, l *statementList) (page Statement, applied int64, err error) {
	var parked bool
	err = withRetry(ctx, s.pool, func(ctx context.Context) (err error) {
		rows, _ := s.pool.Query(ctx, l.sql(), l.args...)
		page, applied, parked, err = l.collect(rows)
		return err
	})
	switch {
	case err != nil:
		return Statement{}, 0, fmt.Errorf("query: statement: %w", err)
	case parked:
		return Statement{}, applied, ErrBehind
	}
	return page, applied, nil
}

// statementList is a page to be read: its statement and its arguments, of which the first two are those of statementSQL.
type statementList struct {
	id          uuid.UUID
	oldestFirst bool
	limit       int
	where       []string
	args        []any
}

func newStatementList(id uuid.UUID, f StatementFilter) (*statementList, error) {
	l := &statementList{id: id, oldestFirst: f.Sort == "recorded_at", limit: min(max(f.Limit, 1), maxLimit), args: []any{id, (*int64)(nil)}}
	switch kind, known := movementKinds[f.Kind]; {
	case f.Kind == "":
		l.where = append(l.where, isMovement)
	case known:
		l.and("kind = %s::text::\"char\"", string(kind))
	default:
		l.where = append(l.where, "false")
	}
	if f.Cursor != "" {
		position, err := parseStatementCursor(f.Cursor, id, l.oldestFirst)
		if err != nil {
			return nil, err
		}
		if l.oldestFirst {
			l.and("position > %s", position)
		} else {
			l.and("position < %s", position)
		}
	}
	return l, nil
}

// before returns the last microsecond before a time: the latest recorded_at that is earlier.
func before(t time.Time) time.Time {
	at := t.Truncate(time.Microsecond)
	if at.Equal(t) {
		return at.Add(-time.Microsecond)
	}
	return at
}

// and adds a condition, whose %s stands for the argument.
func (l *statementList) and(condition string, arg any) {
	l.args = append(l.args, arg)
	l.where = append(l.where, fmt.Sprintf(condition, "$"+strconv.Itoa(len(l.args))))
}

func (l *statementList) sql() string {
	direction := "desc"
	if l.oldestFirst {
		direction = "asc"
	}
	// The row after the last says whether there is another page.
	return fmt.Sprintf(statementSQL, strings.Join(l.where, " and "), direction, l.limit+1)
}

// collect reads the page; its account is the nil UUID when the account does not exist.
func (l *statementList) collect(rows pgx.Rows) (page Statement, applied int64, parked bool, err error) {
	var (
		r        optionalTransaction
		currency *string
	)
	page.Transactions = []Transaction{}
	_, err = pgx.ForEachRow(rows, append([]any{&applied, &parked, &currency}, r.targets()...), func() error {
		if currency == nil {
			return nil
		}
		var ok bool
		if page.Currency, ok = money.LookupCurrency(*currency); !ok {
			return fmt.Errorf("account %s has the unknown currency %q", l.id, *currency)
		}
		page.AccountID = l.id
		if r.position != nil {
			page.Transactions = append(page.Transactions, r.transaction())
		}
		return nil
	})
	if len(page.Transactions) > l.limit {
		page.Transactions = page.Transactions[:l.limit]
		page.Next = statementCursor(l.id, l.oldestFirst, page.Transactions[l.limit-1].Position)
	}
	return page, applied, parked, err
}

// optionalTransaction is a row of transactions that may be all null, as an outer join gives it.
type optionalTransaction struct {
	kind                               *column.Kind
	reference                          *string
	amount, balance, version, position *int64
	counterparty, transferID           *uuid.UUID
	recordedAt                         *time.Time
}

func (o *optionalTransaction) targets() []any {
	return []any{
		&o.kind, &o.amount, &o.balance, &o.counterparty, &o.transferID, &o.reference, &o.version, &o.position, &o.recordedAt,
	}
}

func (o *optionalTransaction) transaction() Transaction {
	t := Transaction{
		Amount: *o.amount, Balance: *o.balance, Reference: *o.reference, Version: *o.version, Position: *o.position,
		RecordedAt: o.recordedAt.UTC(),
	}
	for name, kind := range movementKinds {
		if kind == *o.kind {
			t.Kind = name
		}
	}
	if o.counterparty != nil {
		t.Counterparty = *o.counterparty
	}
	if o.transferID != nil {
		t.TransferID = *o.transferID
	}
	return t
}

// statementCursor returns a place in an account's statement: a letter for the order, the account, and the position of the
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
