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
	"passbook/internal/readmodel/column"
)

// maxLimit bounds the size of a page.
const maxLimit = 500

// Service answers queries from the read models of one database. It is safe for concurrent use.
type Service struct {
	pool, primary *pgxpool.Pool
	watcher       *watcher
	reader        *reader
	follower      bool

	balances, transactions, totals, holds, stats progress
}

// New returns a Service that reads from pool, which may be a pool of read replicas, and asks primary for what only the
// primary knows. Without replicas the two are the same. The caller closes them.
func New(pool, primary *pgxpool.Pool) *Service {
	s := &Service{pool: pool, primary: primary, reader: &reader{pool: pool}}
	s.balances.id, s.transactions.id, s.totals.id = column.Balances, column.Transactions, column.Totals
	s.holds.id, s.stats.id = column.Holds, column.Stats
	s.watcher = newWatcher(s.readPositions)
	return s
}

// ReadFollower tells the Service, before it is used, that another Passbook writes the log. The position of a time is then final
// only once an event recorded later has arrived.
func (s *Service) ReadFollower() { s.follower = true }

// Run serves callers that wait for a position, until ctx ends. Without it no wait ever succeeds.
func (s *Service) Run(ctx context.Context) error {
	s.watcher.run(ctx)
	return nil
}

// Applied reports that a projection has moved in this process, so that waiting callers notice at once. It never blocks.
func (s *Service) Applied() { s.watcher.wake() }

// OnWait makes each wait for a projection call f with its id first, so that the projection can cut its batch delay short. f
// must not block. OnWait must be called before Run.
func (s *Service) OnWait(f func(projection string)) { s.watcher.onWait = f }

const (
	accountColumns = `b.account_id, b.owner, b.currency, b.balance, b.overdraft_limit, b.deposited::text, b.withdrawn::text,
       b.status, b.version, b.position, b.opened_at, b.updated_at, b.closed_at, b.held, b.metadata`

	appliedSQL = `select position from live_generations where projection = '` + column.Balances + `'`
)

// Account returns an account and the position the read model had applied. The position is valid with ErrNotFound too. The
// error is ErrBehind when the wait ended first.
func (s *Service) Account(ctx context.Context, id uuid.UUID, w Wait) (Account, int64, error) {
	var got *read
	applied, err := s.monotonic(ctx, &s.balances, w, func() (_ int64, err error) {
		if got, err = s.reader.get(ctx, id); err != nil {
			return 0, err
		}
		return got.applied, nil
	})
	switch {
	case err != nil:
		return Account{}, applied, err
	case got.account == nil:
		return Account{}, applied, ErrNotFound
	}
	return *got.account, applied, nil
}

// accountRow is a row of balances as it is scanned.
type accountRow struct {
	Account
	currency, deposited, withdrawn string
	closedAt                       *time.Time
}

func (r *accountRow) account() (*Account, error) {
	a := &r.Account
	var ok bool
	if a.Currency, ok = money.LookupCurrency(r.currency); !ok {
		return nil, fmt.Errorf("query: account %s has the unknown currency %q", a.ID, r.currency)
	}
	a.OpenedAt, a.UpdatedAt = a.OpenedAt.UTC(), a.UpdatedAt.UTC()
	if r.closedAt != nil {
		a.ClosedAt = r.closedAt.UTC()
	}
	var err error
	if a.Deposited, err = decimal(r.deposited, a.Currency); err != nil {
		return nil, err
	}
	a.Withdrawn, err = decimal(r.withdrawn, a.Currency)
	return a, err
}

// decimal formats a non-negative number of minor units, of any size, as decimal text.
func decimal(minor string, c money.Currency) (string, error) {
	if small, err := strconv.ParseInt(minor, 10, 64); err == nil && small >= 0 {
		return money.FormatMinor(small, c), nil
	}
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

// Accounts returns a page of accounts and the position the read model had applied. The error is ErrBadCursor for a cursor
// that was not made for the same filters and sort order.
func (s *Service) Accounts(ctx context.Context, f ListFilter, w Wait) (Page, int64, error) {
	list, err := newList(f)
	if err != nil {
		return Page{}, 0, err
	}
	var page Page
	applied, err := s.monotonic(ctx, &s.balances, w, func() (applied int64, err error) {
		page, applied, err = s.page(ctx, list)
		return applied, err
	})
	if err != nil {
		return Page{}, applied, err
	}
	return page, applied, nil
}

// page reads the checkpoint and the rows in one snapshot.
func (s *Service) page(ctx context.Context, list *list) (page Page, applied int64, err error) {
	err = withRetry(ctx, s.pool, func(ctx context.Context) error {
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, appliedSQL).Scan(&applied); err != nil {
				if errors.Is(err, pgx.ErrNoRows) {
					return nil
				}
				return err
			}
			var err error
			page, err = list.read(ctx, tx)
			return err
		})
	})
	if err != nil {
		return Page{}, 0, fmt.Errorf("query: accounts: %w", err)
	}
	return page, applied, nil
}

// list is a page to read: the conditions of its statement and their arguments.
type list struct {
	id listID
	conditions
	desc    bool
	byOwner bool
	limit   int
	count   bool
	// The first filters of the conditions, with the first filterArgs arguments, select the list; the others select the page.
	filters, filterArgs int
}

func newList(f ListFilter) (*list, error) {
	l := &list{id: listOf(f), limit: min(max(f.Limit, 1), maxLimit), count: f.Count}
	// A subquery, so that PostgreSQL plans for any generation: its statistics may not have this one yet.
	l.and("b.generation = (select generation from live_generations where projection = '" + column.Balances + "')")
	name, desc := strings.CutPrefix(f.Sort, "-")
	l.desc, l.byOwner = desc, name == "owner"
	for _, c := range []struct{ column, value string }{{"owner", f.Owner}, {"currency", f.Currency}, {"status", f.Status}} {
		switch {
		case c.value == "":
		case storable(c.value):
			l.and("b."+c.column+" = %s", c.value)
		default:
			l.and("false") // no row can hold such text, and PostgreSQL rejects it as an argument
		}
	}
	if f.OwnerContains != "" {
		// A text of accents alone matches nothing.
		if folded := column.FoldName(f.OwnerContains); folded != "" && storable(folded) {
			l.and("b.owner_folded like %s", "%"+likeEscaper.Replace(folded)+"%")
		} else {
			l.and("false")
		}
	}
	l.filters, l.filterArgs = len(l.where), len(l.args)
	if f.Cursor == "" {
		return l, nil
	}
	comparison := ">"
	if desc {
		comparison = "<"
	}
	c, err := parseCursor(f.Cursor)
	if err != nil || c.list != l.id || c.byOwner != l.byOwner {
		return nil, ErrBadCursor
	}
	if l.byOwner {
		l.and("(b.owner, b.account_id) "+comparison+" (%s, %s)", c.owner, c.id)
	} else {
		l.and("b.opened_position "+comparison+" %s", c.position)
	}
	return l, nil
}

// storable reports whether a PostgreSQL text can hold the string.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// likeEscaper escapes the special characters of a LIKE pattern.
var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func (l *list) read(ctx context.Context, tx pgx.Tx) (Page, error) {
	direction := ""
	if l.desc {
		direction = " desc"
	}
	order := "b.opened_position" + direction
	if l.byOwner {
		order = "b.owner" + direction + ", b.account_id" + direction
	}
	// The row after the last says whether there is another page. movementsSQL says why the limit is a subquery.
	sql := fmt.Sprintf("select b.opened_position, %s from balances b where %s order by %s limit (select %d)",
		accountColumns, joined(l.where), order, l.limit+1)
	rows, _ := tx.Query(ctx, sql, l.args...)
	defer rows.Close()
	type listed struct {
		Account
		opened int64
	}
	var all []listed
	for rows.Next() {
		var at listed
		account, err := scanAccount(rows, &at.opened)
		if err != nil {
			return Page{}, err
		}
		at.Account = *account // a row of balances, so it is there
		all = append(all, at)
	}
	if err := rows.Err(); err != nil {
		return Page{}, err
	}
	var page Page
	if len(all) > l.limit {
		all = all[:l.limit]
		last := all[len(all)-1]
		c := cursor{list: l.id, position: last.opened}
		if l.byOwner {
			c = cursor{list: l.id, byOwner: true, owner: last.Owner, id: last.ID}
		}
		page.Next = c.String()
	}
	if l.count {
		var err error
		if page.Total, err = l.total(ctx, tx); err != nil {
			return Page{}, err
		}
	}
	page.Accounts = make([]Account, len(all))
	for i := range all {
		page.Accounts[i] = all[i].Account
	}
	return page, nil
}

// total counts the accounts of the list, up to maxTotal + 1.
func (l *list) total(ctx context.Context, tx pgx.Tx) (*ListTotal, error) {
	var counted int64
	sql := fmt.Sprintf("select count(*) from (select from balances b where %s limit %d) as n", joined(l.where[:l.filters]), maxTotal+1)
	if err := tx.QueryRow(ctx, sql, l.args[:l.filterArgs]...).Scan(&counted); err != nil {
		return nil, err
	}
	return totalOfList(&counted), nil
}
