package query

import (
	"fmt"
	"slices"
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
	"reversal_in": column.ReversalIn, "reversal_out": column.ReversalOut,
}

const isMovement = "t.kind in ('" + string(column.Deposit) + "', '" + string(column.Withdrawal) + "', '" +
	string(column.TransferIn) + "', '" + string(column.TransferOut) + "', '" +
	string(column.ReversalIn) + "', '" + string(column.ReversalOut) + "')"

// movementsSQL reads a page of movements in one statement, and so in one snapshot: the checkpoint and the generation (p), the
// count, and the rows. It returns at least one row; without movements, that row is null but for its first columns. Its placeholders
// are the condition on parked accounts, the currency of the account if the list is of one, the count, the conditions, the order, the
// limit, the position as of which the list is read, and a join that the conditions need.
//
// The limit is a subquery so that PostgreSQL does not compare it with the number of rows that it expects. Without statistics of the
// generation it expects few rows, and would read and sort all of it instead of reading an index in the order of the list. With a limit
// that it does not know, it plans for the first tenth of the rows. It expects a coalesce, such as that of the filters, to select half
// of the rows, whatever is in it.
//
// The currency of an account never changes, so any row of its details has it. The movement of a captured hold is the event after
// the capture.
const movementsSQL = `select p.position, exists (select from parked_streams f
           where f.projection = p.projection and f.generation = p.generation and %[1]s), coalesce(%[2]s, ''), %[3]s, t.account_id,
       (select currency from account_details a where a.generation = p.generation and a.account_id = t.account_id limit 1),
       t.kind, t.amount, t.balance, t.counterparty, t.transfer_id, t.reference, t.version, t.position, t.recorded_at, t.metadata,
       t.reversed_position,
       (select c.hold_id from transactions c where t.kind in ('w', 'o') and c.generation = p.generation
           and c.account_id = t.account_id and c.position = t.position - 1 and c.kind = 'c'),
       r.positions, r.amount
from live_generations p
left join lateral (
    select t.* from transactions t %[8]s
    where t.generation = p.generation and %[4]s
    order by t.position %[5]s limit (select %[6]d)) as t on true
left join lateral (
    select array_agg(r.position order by r.position) as positions, sum(r.amount)::bigint as amount
    from transactions r
    where r.generation = p.generation and r.reversed_position = t.position and r.position <= coalesce(%[7]s, p.position)) as r on true
where p.projection = '` + column.Transactions + `'
order by t.position %[5]s`

// joinCurrencySQL joins a movement (t) with the currency of its account (a).
const joinCurrencySQL = `cross join lateral (
        select currency from account_details a where a.generation = t.generation and a.account_id = t.account_id limit 1) as a`

// currencySQL returns the currency of an account, if it was open at a position.
const currencySQL = `(select currency from account_details a
           where a.generation = p.generation and a.account_id = %s and a.position <= coalesce(%s, p.position) limit 1)`

// countSQL counts the movements of a list among the first rows that its conditions select, and those rows. Its placeholders are the
// filters, the conditions, the order, the limit and the join.
const countSQL = `(select array[count(*) filter (where %s), count(*)] from (
    select t.* from transactions t where t.generation = p.generation and %s order by t.position %s limit (select %d)) as t %s)`

// maxTotal is the highest total that is returned. It is also how many movements a count looks at.
const maxTotal = 10_000

// ListTotal is how many elements a list has on all its pages.
type ListTotal struct {
	// N is at most 10,000. Exceeds says that there are, or may be, more: no index serves filters by kind, currency and amount, so a
	// count of movements looks only at the first 10,000 that match the other filters.
	N       int64
	Exceeds bool
}

// totalOfList is nil when the elements were not counted.
func totalOfList(counted *int64) *ListTotal {
	if counted == nil {
		return nil
	}
	return &ListTotal{N: min(*counted, maxTotal), Exceeds: *counted > maxTotal}
}

// conditions is the where clause of a statement, with its arguments.
type conditions struct {
	where []string
	args  []any
}

// and adds a condition, each of whose %s stands for the next argument.
func (c *conditions) and(condition string, args ...any) {
	c.where = append(c.where, c.numbered(condition, args...))
}

// numbered returns a condition with the numbers of its arguments.
func (c *conditions) numbered(condition string, args ...any) string {
	numbers := make([]any, len(args))
	for i, arg := range args {
		c.args = append(c.args, arg)
		numbers[i] = "$" + strconv.Itoa(len(c.args))
	}
	return fmt.Sprintf(condition, numbers...)
}

func joined(where []string) string {
	return strings.Join(append(slices.Clip(where), "true"), " and ")
}

// movementList is a page of movements to be read.
type movementList struct {
	conditions
	// parked is a condition on parked accounts (f); while one meets it, the list is incomplete. asOf and account are expressions: the
	// position as of which the list is read, or null, and the account that it is of, empty if it is of all.
	parked, asOf, account string
	oldestFirst           bool
	limit                 int
	count                 bool
	// filters are further conditions, which no index serves, and join is joinCurrencySQL if one of them needs the currency.
	filters []string
	join    string
	// The first ofList of the other conditions select the list; those after them select the page.
	ofList int
}

// filter adds a condition to filters.
func (l *movementList) filter(condition string, args ...any) {
	l.filters = append(l.filters, l.numbered(condition, args...))
}

func (l *movementList) sql() string {
	direction, count := "desc", "null::bigint[]"
	if l.oldestFirst {
		direction = "asc"
	}
	filters := "coalesce(" + joined(append([]string{isMovement}, l.filters...)) + ", false)"
	if l.count {
		count = fmt.Sprintf(countSQL, filters, joined(l.where[:l.ofList]), direction, maxTotal+1, l.join)
	}
	currency := "null"
	if l.account != "" {
		currency = fmt.Sprintf(currencySQL, l.account, l.asOf)
	}
	// The row after the last says whether there is another page.
	return fmt.Sprintf(movementsSQL, l.parked, currency, count, joined(append(slices.Clone(l.where), filters)), direction, l.limit+1, l.asOf, l.join)
}

// ofKind selects the movements of a kind, or all if it is empty.
func (l *movementList) ofKind(name string) {
	switch kind, known := movementKinds[name]; {
	case name == "":
	case known:
		l.filter(`t.kind = %s::text::"char"`, string(kind))
	default:
		l.and("false")
	}
}

// after selects what comes after a position in the order of the list.
func (l *movementList) after(position int64) {
	if l.oldestFirst {
		l.and("t.position > %s", position)
	} else {
		l.and("t.position < %s", position)
	}
}

// movementPage is what movementsSQL returns.
type movementPage struct {
	applied   int64
	parked    bool
	currency  string  // empty if there is no such account
	counts    []int64 // those of countSQL; nil if they were not asked for
	movements []Transaction
	more      bool
}

// total is nil when the movements were not counted.
func (p *movementPage) total() *ListTotal {
	if p.counts == nil {
		return nil
	}
	return &ListTotal{N: min(p.counts[0], maxTotal), Exceeds: p.counts[1] > maxTotal}
}

func (l *movementList) collect(rows pgx.Rows) (*movementPage, error) {
	page := &movementPage{movements: []Transaction{}}
	var r optionalTransaction
	_, err := pgx.ForEachRow(rows, append([]any{&page.applied, &page.parked, &page.currency, &page.counts}, r.targets()...), func() error {
		if r.position == nil {
			return nil
		}
		t, err := r.transaction()
		page.movements = append(page.movements, t)
		return err
	})
	if len(page.movements) > l.limit {
		page.movements, page.more = page.movements[:l.limit], true
	}
	return page, err
}

// optionalTransaction is a row of transactions that may be all null, since it comes from an outer join.
type optionalTransaction struct {
	kind                                                   *column.Kind
	currency, reference                                    *string
	amount, balance, version, position, reverses, reversed *int64
	accountID, counterparty, transferID, holdID            *uuid.UUID
	recordedAt                                             *time.Time
	metadata                                               map[string]string
	reversedBy                                             []int64
}

func (o *optionalTransaction) targets() []any {
	return []any{
		&o.accountID, &o.currency, &o.kind, &o.amount, &o.balance, &o.counterparty, &o.transferID, &o.reference, &o.version, &o.position,
		&o.recordedAt, &o.metadata, &o.reverses, &o.holdID, &o.reversedBy, &o.reversed,
	}
}

func (o *optionalTransaction) transaction() (Transaction, error) {
	currency, ok := money.LookupCurrency(*o.currency)
	if !ok {
		return Transaction{}, fmt.Errorf("account %s has the unknown currency %q", o.accountID, *o.currency)
	}
	t := Transaction{
		AccountID: *o.accountID, Currency: currency, Amount: *o.amount, Balance: *o.balance, Reference: *o.reference, Version: *o.version,
		Position: *o.position, RecordedAt: o.recordedAt.UTC(), Metadata: o.metadata, ReversedBy: []int64{},
		Counterparty: orZero(o.counterparty), TransferID: orZero(o.transferID), HoldID: orZero(o.holdID),
		Reverses: orZero(o.reverses), ReversedAmount: orZero(o.reversed),
	}
	if o.reversedBy != nil {
		t.ReversedBy = o.reversedBy
	}
	for name, kind := range movementKinds {
		if kind == *o.kind {
			t.Kind = name
		}
	}
	return t, nil
}

func orZero[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}
