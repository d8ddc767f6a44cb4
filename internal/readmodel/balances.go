// Package readmodel defines the read models: how each folds events, and the statements that write its tables. A read model
// knows nothing of loops, leases or checkpoints; package projector runs it.
package readmodel

import (
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

// Balances is the read model behind GET /accounts and its balances, with a row for each account.
func Balances() *projector.Projection {
	p := projector.Define(column.Balances, 2, []string{"balances"}, func() projector.Fold { return newBalances() })
	projector.On(p, (*balances).opened)
	projector.On(p, func(b *balances, at projector.Event, e account.MoneyDeposited) error {
		return b.move(at, e.Amount, true)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.TransferReceived) error {
		return b.move(at, e.Amount, true)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.MoneyWithdrawn) error {
		return b.move(at, e.Amount, false)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.TransferSent) error {
		return b.move(at, e.Amount, false)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.CreditReversed) error {
		return b.reverse(at, e.Amount, true)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.DebitReversed) error {
		return b.reverse(at, e.Amount, false)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.HoldPlaced) error {
		return b.hold(at, e.Amount.Minor())
	})
	projector.On(p, func(b *balances, at projector.Event, e account.HoldCaptured) error {
		return b.hold(at, -e.Amount.Minor(), -e.Released)
	})
	projector.On(p, func(b *balances, at projector.Event, e account.HoldReleased) error {
		return b.hold(at, -e.Amount.Minor())
	})
	projector.On(p, func(b *balances, at projector.Event, e account.HoldExpired) error {
		return b.hold(at, -e.Amount.Minor())
	})
	projector.On(p, func(b *balances, at projector.Event, e account.OwnerChanged) error {
		return b.change(at, func(r *balanceRow) { r.owner = &e.Owner })
	})
	projector.On(p, func(b *balances, at projector.Event, e account.OverdraftLimitChanged) error {
		return b.change(at, func(r *balanceRow) { r.overdraft = &e.OverdraftLimit })
	})
	projector.On(p, func(b *balances, at projector.Event, e account.MetadataChanged) error {
		return b.change(at, func(r *balanceRow) { r.metadata = &e.Metadata })
	})
	projector.On(p, func(b *balances, at projector.Event, _ account.SubjectErased) error {
		return b.change(at, func(r *balanceRow) { r.owner, r.metadata = new(""), &account.Metadata{} })
	})
	projector.On(p, func(b *balances, at projector.Event, _ account.AccountSuspended) error {
		return b.become(at, column.Suspended)
	})
	projector.On(p, func(b *balances, at projector.Event, _ account.AccountReactivated) error {
		return b.become(at, column.Active)
	})
	projector.On(p, func(b *balances, at projector.Event, _ account.AccountClosed) error {
		return b.become(at, column.Closed)
	})
	return p
}

// relaxedDelay is the batch delay of the read models other than balances: large batches cost least.
const relaxedDelay = 40 * time.Millisecond

// Each statement takes an array for each column. The first inserts the accounts that a batch opens, with all else that the batch
// does to them, and the others change existing accounts.
const (
	insertBalancesSQL = `insert into balances (generation, account_id, owner, owner_folded, currency, balance, held, overdraft_limit,
    deposited, withdrawn, status, version, position, opened_position, opened_at, updated_at, closed_at, metadata)
select $1, u.* from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]::bigint[], $7::text[]::bigint[], $8::bigint[],
    $9::text[]::numeric[], $10::text[]::numeric[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::timestamptz[],
    $16::timestamptz[], $17::timestamptz[], $18::text[]::jsonb[]) as u`

	// The version check excludes a row that is not at the version that the events follow: an error, and never a wrong balance. What
	// has not changed is null.
	updateBalancesSQL = `update balances b
set balance = b.balance + u.balance, held = b.held + u.held, deposited = b.deposited + u.deposited, withdrawn = b.withdrawn + u.withdrawn,
    status = coalesce(u.status, b.status), version = u.version, position = u.position, updated_at = u.updated_at,
    closed_at = coalesce(u.closed_at, b.closed_at), owner = coalesce(u.owner, b.owner),
    owner_folded = coalesce(u.owner_folded, b.owner_folded), overdraft_limit = coalesce(u.overdraft_limit, b.overdraft_limit),
    metadata = nullif(coalesce(u.metadata, b.metadata), '{}')
from unnest($2::uuid[], $3::text[]::numeric[], $4::text[]::numeric[], $5::text[]::numeric[], $6::text[]::numeric[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[], $15::bigint[],
    $16::text[]::jsonb[])
    as u(account_id, balance, held, deposited, withdrawn, status, before, version, position, updated_at, closed_at, owner,
        owner_folded, overdraft_limit, metadata)
where b.generation = $1 and b.account_id = u.account_id and b.version = u.before`

	// The same for accounts on which only money has moved, in amounts that fit 64 bits, which is nearly all. It takes two thirds of
	// the time.
	moveBalancesSQL = `update balances b
set balance = b.balance + ($3::bigint[])[u.n], deposited = b.deposited + ($4::bigint[])[u.n],
    withdrawn = b.withdrawn + ($5::bigint[])[u.n], version = ($7::bigint[])[u.n], position = ($8::bigint[])[u.n],
    updated_at = ($9::timestamptz[])[u.n]
from unnest($2::uuid[]) with ordinality as u(account_id, n)
where b.generation = $1 and b.account_id = u.account_id and b.version = ($6::bigint[])[u.n]`
)

// balances folds a batch by account.
type balances struct {
	rows  map[uuid.UUID]*balanceRow
	order []*balanceRow // as first touched, so that rows are locked and written in one order
}

type balanceRow struct {
	id uuid.UUID
	// currency, openedPosition and openedAt are set if the batch opens the account.
	currency                          *money.Currency
	openedPosition                    int64
	openedAt                          time.Time
	moved, held, deposited, withdrawn sum
	before, version, lastPosition     int64
	updatedAt                         time.Time
	closedAt                          *time.Time

	// nil if unchanged
	status    *column.Status
	owner     *string
	overdraft *int64
	metadata  *account.Metadata
}

func newBalances() *balances { return &balances{rows: make(map[uuid.UUID]*balanceRow)} }

// touch returns the row of the event's account. It fails when the event does not have the account's next version.
func (b *balances) touch(at projector.Event) (*balanceRow, error) {
	row, ok := b.rows[at.StreamID]
	if !ok {
		row = &balanceRow{id: at.StreamID, before: at.Version - 1, version: at.Version - 1}
		b.rows[at.StreamID] = row
		b.order = append(b.order, row)
	}
	if at.Version != row.version+1 {
		return nil, fmt.Errorf("account %s: version %d does not follow version %d", at.StreamID, at.Version, row.version)
	}
	row.version, row.lastPosition, row.updatedAt = at.Version, at.Position, at.RecordedAt
	return row, nil
}

func (b *balances) opened(at projector.Event, e account.AccountCreated) error {
	row, err := b.touch(at)
	if err != nil {
		return err
	}
	if at.Version != 1 {
		return fmt.Errorf("account %s: opened by its event %d", at.StreamID, at.Version)
	}
	active := column.Active
	row.currency, row.openedPosition, row.openedAt, row.status = &e.Currency, at.Position, at.RecordedAt, &active
	row.owner, row.overdraft, row.metadata = &e.Owner, &e.OverdraftLimit, &e.Metadata
	return nil
}

func (b *balances) move(at projector.Event, amount money.Amount, in bool) error {
	row, err := b.touch(at)
	if err != nil {
		return err
	}
	if in {
		row.moved.add(amount.Minor())
		row.deposited.add(amount.Minor())
	} else {
		row.moved.sub(amount.Minor())
		row.withdrawn.add(amount.Minor())
	}
	return nil
}

// reverse takes back what a movement added to deposited or withdrawn.
func (b *balances) reverse(at projector.Event, amount money.Amount, credit bool) error {
	row, err := b.touch(at)
	if err != nil {
		return err
	}
	if credit {
		row.moved.sub(amount.Minor())
		row.deposited.sub(amount.Minor())
	} else {
		row.moved.add(amount.Minor())
		row.withdrawn.sub(amount.Minor())
	}
	return nil
}

func (b *balances) hold(at projector.Event, changes ...int64) error {
	row, err := b.touch(at)
	if err != nil {
		return err
	}
	for _, minor := range changes {
		row.held.add(minor)
	}
	return nil
}

func (b *balances) change(at projector.Event, set func(*balanceRow)) error {
	row, err := b.touch(at)
	if err == nil {
		set(row)
	}
	return err
}

func (b *balances) become(at projector.Event, status column.Status) error {
	row, err := b.touch(at)
	if err != nil {
		return err
	}
	row.status = &status
	if status == column.Closed {
		row.closedAt = &at.RecordedAt
	}
	return nil
}

// Rows implements projector.Sized.
func (b *balances) Rows() int { return len(b.order) }

// statementRows is how many rows a statement writes at most. With more it is no faster, and its parameters would take as
// much memory as everything else together.
const statementRows = 2_000

// Flush implements projector.Fold.
func (b *balances) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	for rows := range slices.Chunk(b.order, statementRows) {
		if err := flushBalances(ctx, tx, generation, rows); err != nil {
			return err
		}
	}
	return nil
}

func flushBalances(ctx context.Context, tx pgx.Tx, generation int64, rows []*balanceRow) error {
	var opened openedColumns
	var changed changedColumns
	var moved movedColumns
	for _, row := range rows {
		switch {
		case row.currency != nil:
			opened.add(row)
		case row.onlyMoved():
			moved.add(row)
		default:
			changed.add(row)
		}
	}
	if len(opened.ids) > 0 {
		if _, err := tx.Exec(ctx, insertBalancesSQL, opened.args(generation)...); err != nil {
			return fmt.Errorf("balances: insert: %w", err)
		}
	}
	if err := update(ctx, tx, updateBalancesSQL, len(changed.ids), changed.args(generation)); err != nil {
		return err
	}
	return update(ctx, tx, moveBalancesSQL, len(moved.ids), moved.args(generation))
}

// update runs one of the update statements. It fails unless the statement changes exactly that many rows.
func update(ctx context.Context, tx pgx.Tx, sql string, rows int, args []any) error {
	if rows == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("balances: update: %w", err)
	}
	if n := int(tag.RowsAffected()); n != rows {
		return fmt.Errorf("balances: %d of %d accounts are not at the version that their events follow", rows-n, rows)
	}
	return nil
}

type openedColumns struct {
	ids                                  [][16]byte // pgx encodes [16]byte directly, and uuid.UUID through its text form
	owners, folded, currencies           []string
	overdrafts                           []int64
	balances, held, deposited, withdrawn []string
	statuses                             []column.Status
	versions, positions, openPosition    []int64
	openedAt, updatedAt                  []time.Time
	closedAt                             []*time.Time
	metadata                             []*string
}

func (c *openedColumns) add(r *balanceRow) {
	c.ids = append(c.ids, r.id)
	c.owners = append(c.owners, *r.owner)
	c.folded = append(c.folded, column.FoldName(*r.owner))
	c.currencies = append(c.currencies, r.currency.Code())
	c.balances = append(c.balances, r.moved.String())
	c.held = append(c.held, r.held.String())
	c.overdrafts = append(c.overdrafts, *r.overdraft)
	c.deposited = append(c.deposited, r.deposited.String())
	c.withdrawn = append(c.withdrawn, r.withdrawn.String())
	c.statuses = append(c.statuses, *r.status)
	c.versions = append(c.versions, r.version)
	c.positions = append(c.positions, r.lastPosition)
	c.openPosition = append(c.openPosition, r.openedPosition)
	c.openedAt = append(c.openedAt, r.openedAt)
	c.updatedAt = append(c.updatedAt, r.updatedAt)
	c.closedAt = append(c.closedAt, r.closedAt)
	c.metadata = append(c.metadata, metadataText(*r.metadata))
}

func (c *openedColumns) args(generation int64) []any {
	return []any{
		generation, c.ids, c.owners, c.folded, c.currencies, c.balances, c.held, c.overdrafts, c.deposited, c.withdrawn, c.statuses,
		c.versions, c.positions, c.openPosition, c.openedAt, c.updatedAt, c.closedAt, c.metadata,
	}
}

// onlyMoved reports whether moveBalancesSQL can write the row.
func (r *balanceRow) onlyMoved() bool {
	return r.status == nil && r.owner == nil && r.overdraft == nil && r.metadata == nil && r.held == sum{} &&
		r.moved.wide == nil && r.deposited.wide == nil && r.withdrawn.wide == nil
}

type movedColumns struct {
	ids                           [][16]byte
	changes, deposited, withdrawn []int64
	befores, versions, positions  []int64
	updatedAt                     []time.Time
}

func (c *movedColumns) add(r *balanceRow) {
	c.ids = append(c.ids, r.id)
	c.changes = append(c.changes, r.moved.small)
	c.deposited = append(c.deposited, r.deposited.small)
	c.withdrawn = append(c.withdrawn, r.withdrawn.small)
	c.befores = append(c.befores, r.before)
	c.versions = append(c.versions, r.version)
	c.positions = append(c.positions, r.lastPosition)
	c.updatedAt = append(c.updatedAt, r.updatedAt)
}

func (c *movedColumns) args(generation int64) []any {
	return []any{generation, c.ids, c.changes, c.deposited, c.withdrawn, c.befores, c.versions, c.positions, c.updatedAt}
}

type changedColumns struct {
	ids                                 [][16]byte
	changes, held, deposited, withdrawn []string
	befores, versions, positions        []int64
	updatedAt                           []time.Time
	closedAt                            []*time.Time
	statuses                            []*column.Status
	owners, folded, metadata            []*string
	overdrafts                          []*int64
}

func (c *changedColumns) add(r *balanceRow) {
	c.ids = append(c.ids, r.id)
	c.changes = append(c.changes, r.moved.String())
	c.held = append(c.held, r.held.String())
	c.deposited = append(c.deposited, r.deposited.String())
	c.withdrawn = append(c.withdrawn, r.withdrawn.String())
	c.befores = append(c.befores, r.before)
	c.versions = append(c.versions, r.version)
	c.positions = append(c.positions, r.lastPosition)
	c.updatedAt = append(c.updatedAt, r.updatedAt)
	c.closedAt = append(c.closedAt, r.closedAt)
	c.statuses = append(c.statuses, r.status)
	c.overdrafts = append(c.overdrafts, r.overdraft)
	var folded, metadata *string
	if r.owner != nil {
		folded = new(column.FoldName(*r.owner))
	}
	if r.metadata != nil {
		if metadata = metadataText(*r.metadata); metadata == nil {
			metadata = new("{}") // null would be no change
		}
	}
	c.owners = append(c.owners, r.owner)
	c.folded = append(c.folded, folded)
	c.metadata = append(c.metadata, metadata)
}

func (c *changedColumns) args(generation int64) []any {
	return []any{
		generation, c.ids, c.changes, c.held, c.deposited, c.withdrawn, c.statuses, c.befores, c.versions, c.positions,
		c.updatedAt, c.closedAt, c.owners, c.folded, c.overdrafts, c.metadata,
	}
}
