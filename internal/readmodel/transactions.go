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

// Transactions is the read model behind statements and past balances. It has a row for each event of an account, with the
// balance, the held sum and the status after it.
func Transactions() *projector.Projection {
	p := projector.Define(column.Transactions, 1, []string{"transactions", "account_details"},
		func() projector.Fold { return newTransactions() })
	p.BatchDelay = relaxedDelay
	projector.On(p, (*transactions).opened)
	projector.On(p, func(t *transactions, at projector.Event, e account.MoneyDeposited) error {
		return t.move(at, column.Deposit, e.Amount, e.Reference, links{metadata: e.Metadata})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.MoneyWithdrawn) error {
		return t.move(at, column.Withdrawal, e.Amount, e.Reference, links{metadata: e.Metadata})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.TransferReceived) error {
		return t.move(at, column.TransferIn, e.Amount, e.Reference,
			links{counterparty: e.From, transferID: e.TransferID, metadata: e.Metadata})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.TransferSent) error {
		return t.move(at, column.TransferOut, e.Amount, e.Reference,
			links{counterparty: e.To, transferID: e.TransferID, metadata: e.Metadata})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.CreditReversed) error {
		return t.reverse(at, column.ReversalOut, e.Reversal)
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.DebitReversed) error {
		return t.reverse(at, column.ReversalIn, e.Reversal)
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.HoldPlaced) error {
		return t.move(at, column.KindHoldPlaced, e.Amount, e.Reference, links{holdID: e.HoldID, metadata: e.Metadata})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.HoldCaptured) error {
		return t.move(at, column.KindHoldCaptured, e.Amount, "", links{holdID: e.HoldID, released: e.Released})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.HoldReleased) error {
		return t.move(at, column.KindHoldReleased, e.Amount, "", links{holdID: e.HoldID})
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.HoldExpired) error {
		return t.move(at, column.KindHoldExpired, e.Amount, "", links{holdID: e.HoldID})
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
	projector.On(p, func(t *transactions, at projector.Event, e account.OwnerChanged) error {
		return t.change(at, column.OwnerChanged, func(d *details) { d.owner = e.Owner })
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.OverdraftLimitChanged) error {
		return t.change(at, column.OverdraftLimitChanged, func(d *details) { d.overdraft = e.OverdraftLimit })
	})
	projector.On(p, func(t *transactions, at projector.Event, e account.MetadataChanged) error {
		return t.change(at, column.MetadataChanged, func(d *details) { d.metadata = e.Metadata })
	})
	projector.On(p, (*transactions).erase)
	return p
}

const (
	// The last row of each account is one index lookup, however many rows the account has.
	lastTransactionsSQL = `select u.id, t.version, t.balance, t.held, t.status
from unnest($2::uuid[]) as u(id)
cross join lateral (select version, balance, held, status from transactions
    where generation = $1 and account_id = u.id order by position desc limit 1) as t`

	copyTransactionsSQL = `copy transactions (generation, position, version, recorded_at, amount, balance, held, reversed_position,
    account_id, counterparty, transfer_id, hold_id, kind, status, reference, metadata) from stdin (format binary)`
)

// transactions folds a batch into rows. Flush computes their balances, which continue from those before the batch.
type transactions struct {
	ledgers map[uuid.UUID]*ledger
	rows    []transaction
	erased  [][16]byte // accounts
	// standings is the state of accounts after earlier batches, so that their last rows need not be read.
	standings map[uuid.UUID]standing
}

// standing is the state of an account after one of its versions. A batch uses it if its events follow that version.
type standing struct {
	version, balance, held int64
	status                 column.StatusCode
}

// maxStandings bounds how many accounts are remembered from batch to batch.
const maxStandings = 20_000

// ledger is an account in a batch. Its state is unknown until Flush has looked up the account.
type ledger struct {
	id              uuid.UUID
	opened          bool
	before, version int64 // of the last event before the batch, and of the last in it
	balance, held   int64
	status          column.StatusCode
	changes         []detailsChange
}

type transaction struct {
	of                *ledger
	position, version int64
	recordedAt        time.Time
	amount            int64
	balance, held     int64 // after the event, like status; computed by Flush
	kind              column.Kind
	status            column.StatusCode
	reference         string
	links             *links
}

// links are the fields that are empty in most rows. They are kept apart so that sorting moves less memory.
type links struct {
	counterparty, transferID, holdID uuid.UUID
	reversed                         int64 // a position
	released                         int64 // by a capture, besides the amount
	metadata                         account.Metadata
}

// noLinks is shared by all rows that have none.
var noLinks links

func newTransactions() *transactions { return &transactions{ledgers: make(map[uuid.UUID]*ledger)} }

func (t *transactions) opened(at projector.Event, e account.AccountCreated) error {
	if at.Version != 1 {
		return fmt.Errorf("account %s: opened by its event %d", at.StreamID, at.Version)
	}
	err := t.change(at, column.AccountOpened, func(d *details) {
		*d = details{owner: e.Owner, currency: e.Currency.Code(), overdraft: e.OverdraftLimit, metadata: e.Metadata}
	})
	if err == nil {
		t.ledgers[at.StreamID].opened = true
	}
	return err
}

func (t *transactions) change(at projector.Event, kind column.Kind, set func(*details)) error {
	if err := t.add(at, transaction{kind: kind}); err != nil {
		return err
	}
	l := t.ledgers[at.StreamID]
	l.changes = append(l.changes, detailsChange{at.Position, set})
	return nil
}

// erase removes the texts of the account, in this batch and in earlier ones, once the rows are written.
func (t *transactions) erase(at projector.Event, _ account.SubjectErased) error {
	t.erased = append(t.erased, at.StreamID)
	return t.add(at, transaction{kind: column.Erased})
}

func (t *transactions) reverse(at projector.Event, kind column.Kind, r account.Reversal) error {
	return t.move(at, kind, r.Amount, "", links{counterparty: r.Counterparty, transferID: r.TransferID, reversed: r.ReversedPosition})
}

func (t *transactions) move(at projector.Event, kind column.Kind, amount money.Amount, reference string, with links) error {
	row := transaction{kind: kind, amount: amount.Minor(), reference: reference}
	if with != noLinks {
		row.links = new(with)
	}
	return t.add(at, row)
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
	if row.links == nil {
		row.links = &noLinks
	}
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
	if err := t.flushDetails(ctx, tx, generation); err != nil {
		return fmt.Errorf("transactions: account details: %w", err)
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
	if err := eraseText(ctx, tx, generation, t.erased, eraseTransactionsSQL, eraseDetailsSQL); err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	t.remember()
	return nil
}

// remember keeps the state of the accounts for later batches, and drops everything else.
func (t *transactions) remember() {
	if t.standings == nil || len(t.standings)+len(t.ledgers) > maxStandings {
		t.standings = make(map[uuid.UUID]standing, len(t.ledgers))
	}
	for id, l := range t.ledgers {
		t.standings[id] = standing{version: l.version, balance: l.balance, held: l.held, status: l.status}
	}
	t.ledgers, t.rows, t.erased = nil, nil, nil
}

// lookUp sets the state that each existing account had before the batch. It reads those that standings does not have.
func (t *transactions) lookUp(ctx context.Context, tx pgx.Tx, generation int64) error {
	var ids [][16]byte // pgx encodes [16]byte directly, and uuid.UUID through its text form
	for id, l := range t.ledgers {
		if l.opened {
			continue
		}
		if last, ok := t.standings[id]; ok && last.version == l.before {
			l.balance, l.held, l.status = last.balance, last.held, last.status
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
		l.balance, l.held, l.status = last.Balance, last.Held, last.Status
	}
	return nil
}

// lastTransaction is the state of an account in its last row.
type lastTransaction struct {
	AccountID              uuid.UUID
	Version, Balance, Held int64
	Status                 column.StatusCode
}

// apply applies a row to the account, and sets the balance, the held sum and the status of the row.
func (l *ledger) apply(r *transaction) error {
	ok := true
	switch r.kind {
	case column.Deposit, column.TransferIn, column.ReversalIn:
		l.balance, ok = money.AddMinor(l.balance, r.amount)
	case column.Withdrawal, column.TransferOut, column.ReversalOut:
		l.balance, ok = money.SubMinor(l.balance, r.amount)
	case column.KindHoldPlaced:
		l.held, ok = money.AddMinor(l.held, r.amount)
	case column.KindHoldCaptured, column.KindHoldReleased, column.KindHoldExpired:
		l.held -= r.amount + r.links.released
		ok = l.held >= 0
	case column.AccountOpened, column.AccountReactivated:
		l.status = column.ActiveCode
	case column.AccountSuspended:
		l.status = column.SuspendedCode
	case column.AccountClosed:
		l.status = column.ClosedCode
	case column.OwnerChanged, column.OverdraftLimitChanged, column.MetadataChanged, column.Erased:
	}
	if !ok {
		return fmt.Errorf("account %s: its balance or its held sum is out of range after version %d", l.id, r.version)
	}
	r.balance, r.held, r.status = l.balance, l.held, l.status
	return nil
}
