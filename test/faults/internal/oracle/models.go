package oracle

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	eventsSQL = `select position, stream_id::text, version, event_id::text, type, payload, recorded_at from events order by position`

	checkpointsSQL = `select id, generation, position from projections`

	parkedSQL = `select stream_id::text, min(position) from projection_failures
where projection = $1 and generation = $2 and parked group by stream_id`

	balancesSQL = `select account_id::text, owner, currency, balance, overdraft_limit, deposited::bigint, withdrawn::bigint, status,
       version, position, opened_position, opened_at, updated_at, closed_at
from balances where generation = $1`

	transactionsSQL = `select position, account_id::text, version, amount, balance, kind::text, status::text, reference, recorded_at
from transactions where generation = $1 order by position`

	totalsSQL = `select currency, accounts, deposited::bigint, withdrawn::bigint, sent::bigint, received::bigint, balance::bigint
from totals where generation = $1`

	watchedSQL = `select invariant, detail from faults.violations order by at`
)

// Findings is the result of a check.
type Findings struct {
	Violations []Violation
	// Events is the length of the log.
	Events int64
}

// Check checks everything in one snapshot, even while the service works. The commands are those that had ended before the
// call.
func Check(ctx context.Context, conn *pgx.Conn, commands []Command) (Findings, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return Findings{}, fmt.Errorf("oracle: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	events, err := readLog(ctx, tx)
	if err != nil {
		return Findings{}, fmt.Errorf("oracle: events: %w", err)
	}
	c := &checker{}
	c.checkCommands(commands, c.checkLog(events))
	if err := c.checkModels(ctx, tx, events); err != nil {
		return Findings{}, fmt.Errorf("oracle: %w", err)
	}
	if err := c.readWatched(ctx, tx); err != nil {
		return Findings{}, fmt.Errorf("oracle: %w", err)
	}
	return Findings{Violations: c.found, Events: int64(len(events))}, nil
}

func readLog(ctx context.Context, tx pgx.Tx) ([]event, error) {
	rows, err := tx.Query(ctx, eventsSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (event, error) {
		var (
			e    event
			text []byte
		)
		if err := row.Scan(&e.position, &e.stream, &e.version, &e.id, &e.kind, &text, &e.recorded); err != nil {
			return e, err
		}
		var err error
		e.payload, err = parsePayload(text)
		return e, err
	})
}

// checkModels compares each read model with the fold of the log up to its checkpoint: I4, and I7 for parked streams.
func (c *checker) checkModels(ctx context.Context, tx pgx.Tx, events []event) error {
	type checkpoint struct {
		ID                   string
		Generation, Position int64
	}
	rows, _ := tx.Query(ctx, checkpointsSQL)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[checkpoint])
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Position > int64(len(events)) {
			c.violated("I4", "%s is at position %d of a log of %d", p.ID, p.Position, len(events))
			continue
		}
		parked, err := readParked(ctx, tx, p.ID, p.Generation)
		if err != nil {
			return err
		}
		f := newFold(events, p.Position, parked)
		switch p.ID {
		case "balances":
			err = c.checkBalances(ctx, tx, p.Generation, f)
		case "transactions":
			err = c.checkTransactions(ctx, tx, p.Generation, f)
		case "totals":
			err = c.checkTotals(ctx, tx, p.Generation, f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.ID, err)
		}
	}
	return nil
}

func readParked(ctx context.Context, tx pgx.Tx, id string, generation int64) (map[string]int64, error) {
	parked := make(map[string]int64)
	var (
		stream   string
		position int64
	)
	err := each(ctx, tx, []any{&stream, &position}, func() error {
		parked[stream] = position
		return nil
	}, parkedSQL, id, generation)
	return parked, err
}

// fold is what the read models must hold.
type fold struct {
	*books
	position int64
	rows     []statement // of the statements
}

// statement is an event and the balance after it.
type statement struct {
	*event
	balance int64
	status  string
}

// newFold folds the log up to a position; of a parked stream, only the events before the one at which it is parked.
func newFold(events []event, position int64, parked map[string]int64) *fold {
	f := &fold{books: newBooks(), position: position}
	for i := range events[:position] {
		e := &events[i]
		if at, ok := parked[e.stream]; ok && e.position >= at {
			continue
		}
		_ = f.apply(e) // checkLog reports broken rules
		if a := f.accounts[e.stream]; a != nil {
			f.rows = append(f.rows, statement{e, a.balance, a.status})
		}
	}
	return f
}

func (c *checker) checkBalances(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		id     string
		got    holdings
		closed *time.Time
		seen   int
	)
	err := each(ctx, tx, []any{
		&id, &got.owner, &got.currency, &got.balance, &got.limit, &got.come, &got.gone, &got.status, &got.version, &got.position,
		&got.opened, &got.openedAt, &got.updatedAt, &closed,
	}, func() error {
		seen++
		got.closedAt = time.Time{}
		if closed != nil {
			got.closedAt = *closed
		}
		if want := f.accounts[id]; want == nil || !want.equal(&got) {
			c.violated("I4", "balances at position %d: account %s is %+v, the fold has %+v", f.position, id, got, want)
		}
		return nil
	}, balancesSQL, generation)
	if err == nil && seen != len(f.accounts) {
		c.violated("I4", "balances at position %d: %d accounts, the fold has %d", f.position, seen, len(f.accounts))
	}
	return err
}

// equal compares times as instants.
func (a *holdings) equal(other *holdings) bool {
	o := *other
	same := a.openedAt.Equal(o.openedAt) && a.updatedAt.Equal(o.updatedAt) && a.closedAt.Equal(o.closedAt)
	o.openedAt, o.updatedAt, o.closedAt = a.openedAt, a.updatedAt, a.closedAt
	return same && *a == o
}

var kindLetters = map[string]string{
	"AccountCreated": "O", "MoneyDeposited": "d", "MoneyWithdrawn": "w", "TransferSent": "o", "TransferReceived": "i",
	"AccountSuspended": "S", "AccountReactivated": "R", "AccountClosed": "C",
}

func (c *checker) checkTransactions(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		position, version, amount, balance int64
		account, kind, status, reference   string
		at                                 time.Time
		seen                               int
	)
	err := each(ctx, tx, []any{&position, &account, &version, &amount, &balance, &kind, &status, &reference, &at}, func() error {
		if seen++; seen > len(f.rows) {
			return nil
		}
		want := &f.rows[seen-1]
		if position != want.position || account != want.stream || version != want.version || amount != want.payload.Amount ||
			balance != want.balance || kind != kindLetters[want.kind] || status != want.status[:1] ||
			reference != want.payload.Reference || !at.Equal(want.recorded) {
			c.violated("I4", "transactions at position %d: row %d is %s of %d at position %d leaving %d; the fold has %s of %d at %d leaving %d",
				f.position, seen, kind, amount, position, balance, want.kind, want.payload.Amount, want.position, want.balance)
		}
		return nil
	}, transactionsSQL, generation)
	if err == nil && seen != len(f.rows) {
		c.violated("I4", "transactions at position %d: %d rows, the fold has %d", f.position, seen, len(f.rows))
	}
	return err
}

func (c *checker) checkTotals(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		currency string
		got      purse
		seen     int
	)
	err := each(ctx, tx, []any{&currency, &got.accounts, &got.deposited, &got.withdrawn, &got.sent, &got.received, &got.balance}, func() error {
		seen++
		if want := f.purses[currency]; want == nil || *want != got {
			c.violated("I4", "totals at position %d: %s is %+v, the fold has %+v", f.position, currency, got, want)
		}
		return nil
	}, totalsSQL, generation)
	if err == nil && seen != len(f.purses) {
		c.violated("I4", "totals at position %d: %d currencies, the fold has %d", f.position, seen, len(f.purses))
	}
	return err
}

// readWatched reads what the triggers of Watch have recorded.
func (c *checker) readWatched(ctx context.Context, tx pgx.Tx) error {
	var invariant, detail string
	err := each(ctx, tx, []any{&invariant, &detail}, func() error {
		c.violated(invariant, "%s", detail)
		return nil
	}, watchedSQL)
	return err
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// each scans every row that a query returns, and calls f after each.
func each(ctx context.Context, q querier, into []any, f func() error, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...) //nolint:rowserrcheck // ForEachRow does
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, f)
	return err
}
