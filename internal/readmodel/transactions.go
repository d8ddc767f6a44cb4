package readmodel

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/readmodel/column"
)

// Transactions is the read model behind statements and past balances, with a row for each event of an account: the event,
// and the balance and status after it.
func Transactions() *projector.Projection {
	p := projector.Define(column.Transactions, 1, []string{"transactions", "account_details"},
		func() projector.Fold { return newTransactions() })
	p.BatchDelay = relaxedDelay
	projector.On(p, (*transactions).opened)
	projector.On(p, func(t *transactions, at projector.Event, e account.MoneyDeposited) error {
		return t.add(at, transaction{kind: column.Deposit, amount: e.Amount.Minor(), reference: e.Reference})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.MoneyWithdrawn) error {
		return t.add(at, transaction{kind: column.Withdrawal, amount: e.Amount.Minor(), reference: e.Reference})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.TransferReceived) error {
		return t.add(at, transaction{
			kind: column.TransferIn, amount: e.Amount.Minor(), reference: e.Reference, counterparty: &e.From, transferID: &e.TransferID,
		})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.TransferSent) error {
		return t.add(at, transaction{
			kind: column.TransferOut, amount: e.Amount.Minor(), reference: e.Reference, counterparty: &e.To, transferID: &e.TransferID,
		})
	})
	projector.On(p, func(t *transactions, at projector.Event, _ account.AccountSuspended) error {
		return t.add(at, transaction{kind: column.AccountSuspended})
	})
	projector.On(p, func(t *transactions, at projector.Event, _ account.AccountReactivated) error {
		return t.add(at, transaction{kind: column.AccountReactivated})
	})
	projector.On(p, func(t *transactions, at projector.Event, _ account.AccountClosed) error {
		return t.add(at, transaction{kind: column.AccountClosed})
	})
	return p
}

const (
	// The last row of each account is one index lookup, however many rows the account has.
	lastTransactionsSQL = `select u.id, t.version, t.balance, t.status
from unnest($2::uuid[]) as u(id)
cross join lateral (select version, balance, status from transactions
    where generation = $1 and account_id = u.id order by position desc limit 1) as t`

	copyTransactionsSQL = `copy transactions (generation, position, version, recorded_at, amount, balance, held, account_id,
    counterparty, transfer_id, kind, status, reference) from stdin (format binary)`

	insertDetailsSQL = `insert into account_details (generation, account_id, position, owner,
    currency, overdraft_limit)
select $1, u.* from unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[]) as u`
)

// transactions folds a batch into rows. Flush computes their balances, which continue from those of the batch before.
type transactions struct {
	ledgers map[uuid.UUID]*ledger
	rows    []transaction
	// standings is the state of accounts after earlier batches, so that their last rows need not be read.
	standings map[uuid.UUID]standing
}

// standing is the state of an account after one of its versions. The next batch uses it if it continues from that version.
type standing struct {
	version, balance int64
	status           column.StatusCode
}

// maxStandings bounds how many accounts are remembered from batch to batch.
const maxStandings = 20_000

// ledger is an account in a batch. Its balance and status are unknown until Flush has looked up the account.
type ledger struct {
	id              uuid.UUID
	opened          *account.AccountCreated
	openedPosition  int64
	before, version int64 // of the last event before the batch, and of the last in it
	balance         int64
	status          column.StatusCode
}

type transaction struct {
	of                       *ledger
	position, version        int64
	recordedAt               time.Time
	kind                     column.Kind
	amount                   int64
	balance                  int64 // after the event, like status; computed by Flush
	status                   column.StatusCode
	counterparty, transferID *uuid.UUID
	reference                string
}

func newTransactions() *transactions { return &transactions{ledgers: make(map[uuid.UUID]*ledger)} }

func (t *transactions) opened(at projector.Event, e account.AccountCreated) error {
	if at.Version != 1 {
		return fmt.Errorf("account %s: opened by its event %d", at.StreamID, at.Version)
	}
	if err := t.add(at, transaction{kind: column.AccountOpened}); err != nil {
		return err
	}
	l := t.ledgers[at.StreamID]
	l.opened, l.openedPosition = &e, at.Position
	return nil
}

// add appends a row. It fails when the event does not have the account's next version.
func (t *transactions) add(at projector.Event, row transaction) error {
	l, ok := t.ledgers[at.StreamID]
	if !ok {
		l = &ledger{id: at.StreamID, before: at.Version - 1, version: at.Version - 1}
		t.ledgers[at.StreamID] = l
	}
	if at.Version != l.version+1 {
		return fmt.Errorf("account %s: version %d does not follow version %d", at.StreamID, at.Version, l.version)
	}
	l.version = at.Version
	row.of, row.position, row.version, row.recordedAt = l, at.Position, at.Version, at.RecordedAt
	t.rows = append(t.rows, row)
	return nil
}

// Continue implements projector.Continuer.
func (t *transactions) Continue(previous projector.Fold) {
	t.standings = previous.(*transactions).standings
}

// Rows implements projector.Sized.
func (t *transactions) Rows() int { return len(t.rows) }

// Flush implements projector.Fold.
func (t *transactions) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if len(t.rows) == 0 {
		return nil
	}
	if err := t.lookUp(ctx, tx, generation); err != nil {
		return err
	}
	if err := t.open(ctx, tx, generation); err != nil {
		return err
	}
	// An account's rows lie side by side, so that a statement reads few pages and the index is written leaf after leaf.
	slices.SortFunc(t.rows, func(a, b transaction) int {
		return cmp.Or(bytes.Compare(a.of.id[:], b.of.id[:]), cmp.Compare(a.position, b.position))
	})
	for i := range t.rows {
		if err := t.rows[i].of.apply(&t.rows[i]); err != nil {
			return fmt.Errorf("transactions: %w", err)
		}
	}
	source := transactionSource{generation: generation, rows: t.rows}
	if _, err := tx.Conn().PgConn().CopyFrom(ctx, &source, copyTransactionsSQL); err != nil {
		return fmt.Errorf("transactions: copy: %w", err)
	}
	t.remember()
	return nil
}

// remember keeps the accounts' state for the next batch, and drops everything else.
func (t *transactions) remember() {
	if t.standings == nil || len(t.standings)+len(t.ledgers) > maxStandings {
		t.standings = make(map[uuid.UUID]standing, len(t.ledgers))
	}
	for id, l := range t.ledgers {
		t.standings[id] = standing{version: l.version, balance: l.balance, status: l.status}
	}
	t.ledgers, t.rows = nil, nil
}

// lookUp sets the state that each existing account had before the batch. It reads those that the batch before has not
// left in standings.
func (t *transactions) lookUp(ctx context.Context, tx pgx.Tx, generation int64) error {
	var ids [][16]byte // which pgx writes as it is, and a uuid.UUID through its text form
	for id, l := range t.ledgers {
		if l.opened != nil {
			continue
		}
		if last, ok := t.standings[id]; ok && last.version == l.before {
			l.balance, l.status = last.balance, last.status
		} else {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, _ := tx.Query(ctx, lastTransactionsSQL, generation, ids)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lastTransaction])
	if err != nil {
		return fmt.Errorf("transactions: last rows: %w", err)
	}
	if n := len(ids) - len(found); n > 0 {
		return fmt.Errorf("transactions: %d of %d accounts have no row, although their events are not the first", n, len(ids))
	}
	for _, last := range found {
		l := t.ledgers[last.AccountID]
		if last.Version != l.before {
			return fmt.Errorf("transactions: account %s is at version %d, but its events follow version %d",
				l.id, last.Version, l.before)
		}
		l.balance, l.status = last.Balance, last.Status
	}
	return nil
}

// lastTransaction is the state of an account in its last row.
type lastTransaction struct {
	AccountID        uuid.UUID
	Version, Balance int64
	Status           column.StatusCode
}

// open inserts the accounts that the batch opens.
func (t *transactions) open(ctx context.Context, tx pgx.Tx, generation int64) error {
	var (
		ids                [][16]byte
		positions          []int64
		owners, currencies []string
		overdrafts         []int64
	)
	for id, l := range t.ledgers {
		if l.opened == nil {
			continue
		}
		ids = append(ids, id)
		positions = append(positions, l.openedPosition)
		owners = append(owners, l.opened.Owner)
		currencies = append(currencies, l.opened.Currency.Code())
		overdrafts = append(overdrafts, l.opened.OverdraftLimit)
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertDetailsSQL, generation, ids, positions, owners, currencies, overdrafts)
	if err != nil {
		return fmt.Errorf("transactions: insert accounts: %w", err)
	}
	return nil
}

// apply applies a row to the account, and sets the balance and status of the row.
func (l *ledger) apply(r *transaction) error {
	ok := true
	switch r.kind {
	case column.Deposit, column.TransferIn:
		l.balance, ok = money.AddMinor(l.balance, r.amount)
	case column.Withdrawal, column.TransferOut:
		l.balance, ok = money.SubMinor(l.balance, r.amount)
	case column.AccountOpened, column.AccountReactivated:
		l.status = column.ActiveCode
	case column.AccountSuspended:
		l.status = column.SuspendedCode
	case column.AccountClosed:
		l.status = column.ClosedCode
	}
	if !ok {
		return fmt.Errorf("account %s: its balance is out of range after version %d", l.id, r.version)
	}
	r.balance, r.status = l.balance, l.status
	return nil
}
