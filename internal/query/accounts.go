package query

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/money"
)

// maxLimit bounds the size of a page.
const maxLimit = 500

// balancesProjection is the projection whose checkpoint the queries here speak of.
const balancesProjection = "balances"

// Service answers queries from the read models of one database. It is safe for concurrent use.
type Service struct {
	pool    *pgxpool.Pool
	watcher *watcher
}

// New makes a Service on a pool, which stays the caller's to close and may be that of a read replica.
func New(pool *pgxpool.Pool) *Service {
	s := &Service{pool: pool}
	s.watcher = newWatcher(s.readPositions)
	return s
}

// Run serves those who wait for a position, until ctx ends. Without it no wait ever succeeds.
func (s *Service) Run(ctx context.Context) error {
	s.watcher.run(ctx)
	return nil
}

// Applied tells that a projection has moved in this process, so that waiters look at once. It never blocks.
func (s *Service) Applied() { s.watcher.nudge() }

const (
	accountColumns = `b.account_id, b.owner, b.currency, b.balance, b.overdraft_limit, b.deposited::text, b.withdrawn::text,
       b.status, b.version, b.position, b.opened_at, b.updated_at, b.closed_at`

	// The generation is picked in the statement that reads the rows: a reader sees one complete generation, always.
	// There is one row whether or not the account exists, since the answer names the position either way.
	accountSQL = `select p.position, ` + accountColumns + `
from projections p left join balances b on b.generation = p.generation and b.account_id = $1
where p.id = 'balances'`

	appliedSQL = `select position, generation from projections where id = 'balances'`
)

// Account answers an account, with the position the read model had applied. The position is right with ErrNotFound
// too. ErrBehind says that the wait ended first.
func (s *Service) Account(ctx context.Context, id uuid.UUID, w Wait) (Account, int64, error) {
	if err := s.await(ctx, w); err != nil {
		return Account{}, 0, err
	}
	var (
		a       optionalAccount
		applied int64
	)
	err := s.pool.QueryRow(ctx, accountSQL, id).Scan(append([]any{&applied}, a.targets()...)...)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // the projection has never run
		err = ErrNotFound
		if w.MinPosition > 0 {
			err = ErrBehind
		}
		return Account{}, 0, err
	case err != nil:
		return Account{}, 0, fmt.Errorf("query: account: %w", err)
	case applied < w.MinPosition: // no time to wait, or the pool is spread over replicas
		return Account{}, applied, ErrBehind
	case a.id == nil:
		return Account{}, applied, ErrNotFound
	}
	account, err := a.account()
	return account, applied, err
}

func (s *Service) await(ctx context.Context, w Wait) error {
	if w.MinPosition <= 0 || w.Timeout <= 0 {
		return nil // the query itself says whether the position is there
	}
	return s.watcher.wait(ctx, balancesProjection, w.MinPosition, w.Timeout)
}

// optionalAccount is a row of balances that may be all null, as an outer join gives it.
type optionalAccount struct {
	id                                *uuid.UUID
	owner, currency, status           *string
	deposited, withdrawn              *string
	balance, overdraft, version, last *int64
	openedAt, updatedAt, closedAt     *time.Time
}

func (o *optionalAccount) targets() []any {
	return []any{
		&o.id, &o.owner, &o.currency, &o.balance, &o.overdraft, &o.deposited, &o.withdrawn, &o.status, &o.version, &o.last,
		&o.openedAt, &o.updatedAt, &o.closedAt,
	}
}

func (o *optionalAccount) account() (Account, error) {
	currency, ok := money.LookupCurrency(*o.currency)
	if !ok {
		return Account{}, fmt.Errorf("query: account %s has the unknown currency %q", o.id, *o.currency)
	}
	a := Account{
		ID: *o.id, Owner: *o.owner, Currency: currency, Balance: *o.balance, Overdraft: *o.overdraft, Status: *o.status,
		Version: *o.version, Position: *o.last, OpenedAt: o.openedAt.UTC(), UpdatedAt: o.updatedAt.UTC(),
	}
	if o.closedAt != nil {
		a.ClosedAt = o.closedAt.UTC()
	}
	var err error
	if a.Deposited, err = decimal(*o.deposited, currency); err != nil {
		return Account{}, err
	}
	a.Withdrawn, err = decimal(*o.withdrawn, currency)
	return a, err
}

// decimal renders a whole number of minor units, of any size and not negative, as decimal text.
func decimal(minor string, c money.Currency) (string, error) {
	n, ok := new(big.Int).SetString(minor, 10)
	if !ok || n.Sign() < 0 {
		return "", fmt.Errorf("query: %q is not a sum of money", minor)
	}
	if c.Exponent() == 0 {
		return n.String(), nil
	}
	digits := fmt.Sprintf("%0*s", c.Exponent()+1, n.String())
	point := len(digits) - c.Exponent()
	return digits[:point] + "." + digits[point:], nil
}

// Accounts answers a page of accounts, with the position the read model had applied. It answers ErrBadCursor for a
// cursor that it did not make for the same sort order.
func (s *Service) Accounts(ctx context.Context, f ListFilter, w Wait) (Page, int64, error) {
	list, err := newList(f)
	if err != nil {
		return Page{}, 0, err
	}
	if err := s.await(ctx, w); err != nil {
		return Page{}, 0, err
	}
	var (
		page    Page
		applied int64
	)
	// One snapshot for the checkpoint and the rows.
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var generation int64
		if err := tx.QueryRow(ctx, appliedSQL).Scan(&applied, &generation); err != nil {
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		}
		page, err = list.read(ctx, tx, generation)
		return err
	})
	if err != nil {
		return Page{}, 0, fmt.Errorf("query: accounts: %w", err)
	}
	if applied < w.MinPosition {
		return Page{}, applied, ErrBehind
	}
	return page, applied, nil
}

// list is a page to be read: its statement and its arguments, after the generation.
type list struct {
	where   strings.Builder
	args    []any
	desc    bool
	byOwner bool
	limit   int
}

func newList(f ListFilter) (*list, error) {
	l := &list{limit: min(max(f.Limit, 1), maxLimit)}
	name, desc := strings.CutPrefix(f.Sort, "-")
	l.desc, l.byOwner = desc, name == "owner"
	for _, c := range []struct{ column, value string }{{"owner", f.Owner}, {"currency", f.Currency}, {"status", f.Status}} {
		switch {
		case c.value == "":
		case storable(c.value):
			l.and("b."+c.column+" = %s", c.value)
		default:
			l.and("false") // no row can hold such text, and Postgres refuses it as an argument
		}
	}
	if f.Cursor == "" {
		return l, nil
	}
	comparison := ">"
	if desc {
		comparison = "<"
	}
	c, err := parseCursor(f.Cursor)
	if err != nil || c.byOwner != l.byOwner {
		return nil, ErrBadCursor
	}
	if l.byOwner {
		l.and("(b.owner, b.account_id) "+comparison+" (%s, %s)", c.owner, c.id)
	} else {
		l.and("b.opened_position "+comparison+" %s", c.position)
	}
	return l, nil
}

// storable tells whether a Postgres text can hold the string.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// and adds a condition, each of whose %s stands for the next argument.
func (l *list) and(condition string, args ...any) {
	numbers := make([]any, len(args))
	for i, arg := range args {
		l.args = append(l.args, arg)
		numbers[i] = "$" + strconv.Itoa(len(l.args)+1)
	}
	fmt.Fprintf(&l.where, " and "+condition, numbers...)
}

func (l *list) read(ctx context.Context, tx pgx.Tx, generation int64) (Page, error) {
	direction := ""
	if l.desc {
		direction = " desc"
	}
	order := "b.opened_position" + direction
	if l.byOwner {
		order = "b.owner" + direction + ", b.account_id" + direction
	}
	// The row after the last tells whether there is another page.
	sql := fmt.Sprintf("select b.opened_position, %s from balances b where b.generation = $1%s order by %s limit %d",
		accountColumns, l.where.String(), order, l.limit+1)
	rows, _ := tx.Query(ctx, sql, append([]any{generation}, l.args...)...)
	type listed struct {
		Account
		opened int64
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (listed, error) {
		var o optionalAccount
		var at listed
		if err := row.Scan(append([]any{&at.opened}, o.targets()...)...); err != nil {
			return at, err
		}
		var err error
		at.Account, err = o.account()
		return at, err
	})
	if err != nil {
		return Page{}, err
	}
	var page Page
	if len(all) > l.limit {
		all = all[:l.limit]
		last := all[len(all)-1]
		c := cursor{byOwner: l.byOwner, position: last.opened}
		if l.byOwner {
			c = cursor{byOwner: true, owner: last.Owner, id: last.ID}
		}
		page.Next = c.String()
	}
	page.Accounts = make([]Account, len(all))
	for i := range all {
		page.Accounts[i] = all[i].Account
	}
	return page, nil
}
