package oracle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	eventsSQL = `select position, stream_id::text, version, event_id::text, type, payload, recorded_at from events order by position`

	checkpointsSQL = `select id, generation, position from projections`

	parkedSQL = `select stream_id::text, min(position) from projection_failures
where projection = $1 and generation = $2 and parked group by stream_id`

	balancesSQL = `select account_id::text, owner, currency, balance, held, overdraft_limit, deposited::bigint, withdrawn::bigint, status,
       version, position, opened_position, opened_at, updated_at, closed_at, metadata
from balances where generation = $1`

	transactionsSQL = `select position, account_id::text, version, amount, balance, held, kind::text, status::text, reference, recorded_at,
       coalesce(hold_id::text, ''), coalesce(transfer_id::text, ''), coalesce(counterparty::text, ''), coalesce(reversed_position, 0), metadata
from transactions where generation = $1 order by position`

	detailsSQL = `select position, account_id::text, owner, currency, overdraft_limit, metadata
from account_details where generation = $1 order by position`

	holdsSQL = `select hold_id::text, account_id::text, amount, captured, currency, reference, metadata, status::text, expires_at, placed_at,
       placed_position, ended_at, coalesce(ended_position, 0), coalesce(transfer_id::text, '')
from holds where generation = $1`

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
			err = errors.Join(c.checkTransactions(ctx, tx, p.Generation, f), c.checkDetails(ctx, tx, p.Generation, f))
		case "holds":
			err = c.checkHolds(ctx, tx, p.Generation, f)
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

// statement is an event and the account after it.
type statement struct {
	*event
	after holdings
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
			f.rows = append(f.rows, statement{e, *a})
		}
	}
	return f
}

func (c *checker) checkBalances(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		id       string
		got      holdings
		closed   *time.Time
		metadata map[string]string
		seen     int
	)
	err := each(ctx, tx, []any{
		&id, &got.owner, &got.currency, &got.balance, &got.held, &got.limit, &got.come, &got.gone, &got.status, &got.version,
		&got.position, &got.opened, &got.openedAt, &got.updatedAt, &closed, &metadata,
	}, func() error {
		seen++
		got.closedAt, got.metadata = orZero(closed), labels(metadata)
		metadata = nil // a map is scanned into
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

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// equal compares times as instants, and what a row of balances has.
func (a *holdings) equal(other *holdings) bool {
	o := *other
	same := a.openedAt.Equal(o.openedAt) && a.updatedAt.Equal(o.updatedAt) && a.closedAt.Equal(o.closedAt)
	o.openedAt, o.updatedAt, o.closedAt, o.captured = a.openedAt, a.updatedAt, a.closedAt, a.captured
	return same && *a == o
}

var kindLetters = map[string]string{
	"AccountCreated": "O", "MoneyDeposited": "d", "MoneyWithdrawn": "w", "TransferSent": "o", "TransferReceived": "i",
	"AccountSuspended": "S", "AccountReactivated": "R", "AccountClosed": "C", "OwnerChanged": "N", "OverdraftLimitChanged": "L",
	"MetadataChanged": "M", "HoldPlaced": "h", "HoldCaptured": "c", "HoldReleased": "f", "HoldExpired": "e", "CreditReversed": "r",
	"DebitReversed": "b",
}

// line is a row of transactions, but for its time.
type line struct {
	position, version, amount, balance, held, reversed int64
	account, kind, status, reference                   string
	hold, transfer, counterparty, metadata             string
}

func (s *statement) line() line {
	l := line{
		position: s.position, version: s.version, amount: s.payload.Amount, balance: s.after.balance, held: s.after.held,
		reversed: s.payload.Reversed, account: s.stream, kind: kindLetters[s.kind], status: s.after.status[:1],
		reference: s.payload.Reference, hold: s.payload.HoldID, transfer: s.payload.TransferID, counterparty: s.counterparty(),
	}
	if s.sign() != 0 || s.kind == "HoldPlaced" {
		l.metadata = labels(s.payload.Metadata)
	}
	return l
}

func (c *checker) checkTransactions(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		got      line
		at       time.Time
		metadata map[string]string
		seen     int
	)
	err := each(ctx, tx, []any{
		&got.position, &got.account, &got.version, &got.amount, &got.balance, &got.held, &got.kind, &got.status, &got.reference, &at,
		&got.hold, &got.transfer, &got.counterparty, &got.reversed, &metadata,
	}, func() error {
		got.metadata, metadata = labels(metadata), nil
		if seen++; seen > len(f.rows) {
			return nil
		}
		if want := &f.rows[seen-1]; got != want.line() || !at.Equal(want.recorded) {
			c.violated("I4", "transactions at position %d: row %d is %+v; the fold has %+v", f.position, seen, got, want.line())
		}
		return nil
	}, transactionsSQL, generation)
	if err == nil && seen != len(f.rows) {
		c.violated("I4", "transactions at position %d: %d rows, the fold has %d", f.position, seen, len(f.rows))
	}
	return err
}

// detail is a row of account_details.
type detail struct {
	position, limit                    int64
	account, owner, currency, metadata string
}

func (c *checker) checkDetails(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var want []detail
	for i := range f.rows {
		switch s := &f.rows[i]; s.kind {
		case "AccountCreated", "OwnerChanged", "OverdraftLimitChanged", "MetadataChanged":
			want = append(want, detail{s.position, s.after.limit, s.stream, s.after.owner, s.after.currency, s.after.metadata})
		}
	}
	var (
		got      detail
		metadata map[string]string
		seen     int
	)
	err := each(ctx, tx, []any{&got.position, &got.account, &got.owner, &got.currency, &got.limit, &metadata}, func() error {
		got.metadata, metadata = labels(metadata), nil
		if seen++; seen <= len(want) && got != want[seen-1] {
			c.violated("I4", "account_details at position %d: row %d is %+v; the fold has %+v", f.position, seen, got, want[seen-1])
		}
		return nil
	}, detailsSQL, generation)
	if err == nil && seen != len(want) {
		c.violated("I4", "account_details at position %d: %d rows, the fold has %d", f.position, seen, len(want))
	}
	return err
}

func (c *checker) checkHolds(ctx context.Context, tx pgx.Tx, generation int64, f *fold) error {
	var (
		id                 string
		got                hold
		metadata           map[string]string
		expiresAt, endedAt *time.Time
		seen               int
	)
	err := each(ctx, tx, []any{
		&id, &got.account, &got.amount, &got.captured, &got.currency, &got.reference, &metadata, &got.status, &expiresAt, &got.placedAt,
		&got.placedPosition, &endedAt, &got.endedPosition, &got.transferID,
	}, func() error {
		seen++
		got.expiresAt, got.endedAt, got.metadata = orZero(expiresAt), orZero(endedAt), labels(metadata)
		metadata = nil
		if want := f.holds[id]; want == nil || !want.equal(&got) {
			c.violated("I4", "holds at position %d: hold %s is %+v, the fold has %+v", f.position, id, got, want)
		}
		return nil
	}, holdsSQL, generation)
	if err == nil && seen != len(f.holds) {
		c.violated("I4", "holds at position %d: %d holds, the fold has %d", f.position, seen, len(f.holds))
	}
	return err
}

// equal compares times as instants, and what a row of holds has.
func (h *hold) equal(other *hold) bool {
	o := *other
	same := h.expiresAt.Equal(o.expiresAt) && h.placedAt.Equal(o.placedAt) && h.endedAt.Equal(o.endedAt)
	o.expiresAt, o.placedAt, o.endedAt, o.endedVersion = h.expiresAt, h.placedAt, h.endedAt, h.endedVersion
	return same && *h == o
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
