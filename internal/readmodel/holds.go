package readmodel

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/account"
	"passbook/internal/projector"
	"passbook/internal/readmodel/column"
)

// Holds is the read model of holds, open or ended, with a row for each.
func Holds() *projector.Projection {
	p := projector.Define(column.Holds, 1, []string{"holds"}, func() projector.Fold { return newHolds() })
	p.BatchDelay = relaxedDelay
	projector.On(p, (*holds).place)
	projector.On(p, func(h *holds, at projector.Event, e account.HoldCaptured) error {
		return h.end(at, e.HoldID, column.HoldCaptured, e.Amount.Minor(), e.Released)
	})
	projector.On(p, func(h *holds, at projector.Event, e account.HoldReleased) error {
		return h.end(at, e.HoldID, column.HoldReleased, 0, e.Amount.Minor())
	})
	projector.On(p, func(h *holds, at projector.Event, e account.HoldExpired) error {
		return h.end(at, e.HoldID, column.HoldExpired, 0, e.Amount.Minor())
	})
	projector.On(p, (*holds).transfer)
	projector.On(p, func(h *holds, at projector.Event, _ account.SubjectErased) error {
		h.erased = append(h.erased, at.StreamID)
		return nil
	})
	return p
}

const (
	insertHoldsSQL = `insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, metadata, status, expires_at,
    placed_at, placed_position, ended_at, ended_position, transfer_id)
select $1, u.* from unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[]::jsonb[], $9::text[]::"char"[],
    $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::timestamptz[], $14::bigint[], $15::uuid[]) as u`

	// A hold that is not open, or has another account or amount, is not updated, which is an error.
	endHoldsSQL = `update holds h
set status = u.status, captured = u.captured, ended_at = u.ended_at, ended_position = u.ended_position, transfer_id = u.transfer_id
from unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[]::"char"[], $7::timestamptz[], $8::bigint[], $9::uuid[])
    as u(hold_id, account_id, amount, captured, status, ended_at, ended_position, transfer_id)
where h.generation = $1 and h.hold_id = u.hold_id and h.account_id = u.account_id and h.amount = u.amount and h.status = 'o'`

	// The account is compared in a form that no index serves. Otherwise PostgreSQL might read all holds of the account.
	captureSentSQL = `update holds set transfer_id = $4
where generation = $1 and ended_position = $3 and status = 'c' and (account_id = $2) is true`
)

// holds folds a batch by hold.
type holds struct {
	rows  map[uuid.UUID]*holdRow
	order []*holdRow // as first touched, so that rows are locked and written in one order
	// erased are accounts whose texts are to be removed.
	erased [][16]byte

	captured *holdRow // the last captured hold
	// sent is the first transfer of the batch, if no event of a hold comes before it. It may move the money of a hold that was
	// captured at the end of an earlier batch.
	sent *sentTransfer
	seen bool // whether the batch had an event of a hold, or a transfer
}

type sentTransfer struct {
	accountID, transferID uuid.UUID
	position              int64
}

type holdRow struct {
	id, accountID uuid.UUID
	placed        *account.HoldPlaced // nil if that was in an earlier batch
	at            projector.Event     // the event that placed it
	amount        int64
	status        column.HoldStatus
	captured      int64
	endedAt       *time.Time
	endedPosition *int64
	transferID    uuid.NullUUID
}

func newHolds() *holds { return &holds{rows: make(map[uuid.UUID]*holdRow)} }

func (h *holds) place(at projector.Event, e account.HoldPlaced) error {
	h.seen = true
	if h.rows[e.HoldID] != nil {
		return fmt.Errorf("hold %s: placed again", e.HoldID)
	}
	h.add(&holdRow{id: e.HoldID, accountID: at.StreamID, placed: &e, at: at, amount: e.Amount.Minor(), status: column.HoldOpen})
	return nil
}

func (h *holds) add(row *holdRow) {
	h.rows[row.id] = row
	h.order = append(h.order, row)
}

// end ends a hold. Its amount must be captured plus released.
func (h *holds) end(at projector.Event, id uuid.UUID, status column.HoldStatus, captured, released int64) error {
	h.seen = true
	row := h.rows[id]
	if row == nil {
		row = &holdRow{id: id, accountID: at.StreamID, amount: captured + released, status: column.HoldOpen}
		h.add(row)
	}
	if row.status != column.HoldOpen || row.accountID != at.StreamID || row.amount != captured+released {
		return fmt.Errorf("hold %s: it is not an open hold of account %s and of %d minor units", id, at.StreamID, captured+released)
	}
	row.status, row.captured, row.endedAt, row.endedPosition = status, captured, &at.RecordedAt, &at.Position
	if status == column.HoldCaptured {
		h.captured = row
	}
	return nil
}

// transfer links a transfer to the hold whose capture is the event before it.
func (h *holds) transfer(at projector.Event, e account.TransferSent) error {
	switch c := h.captured; {
	case c != nil && c.accountID == at.StreamID && *c.endedPosition == at.Position-1:
		c.transferID = uuid.NullUUID{UUID: e.TransferID, Valid: true}
	case !h.seen:
		h.sent = &sentTransfer{at.StreamID, e.TransferID, at.Position}
	}
	h.seen = true
	return nil
}

// Rows implements projector.Sized.
func (h *holds) Rows() int { return len(h.order) }

// Flush implements projector.Fold.
func (h *holds) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if h.sent != nil {
		_, err := tx.Exec(ctx, captureSentSQL, generation, h.sent.accountID, h.sent.position-1, h.sent.transferID)
		if err != nil {
			return fmt.Errorf("holds: transfer: %w", err)
		}
	}
	for rows := range slices.Chunk(h.order, statementRows) {
		var placed, ended holdColumns
		for _, row := range rows {
			if row.placed != nil {
				placed.add(row)
			} else {
				ended.add(row)
			}
		}
		if err := placed.insert(ctx, tx, generation); err != nil {
			return fmt.Errorf("holds: insert: %w", err)
		}
		if err := ended.update(ctx, tx, generation); err != nil {
			return fmt.Errorf("holds: update: %w", err)
		}
	}
	if err := eraseText(ctx, tx, generation, h.erased, eraseHoldsSQL); err != nil {
		return fmt.Errorf("holds: %w", err)
	}
	return nil
}

type holdColumns struct {
	ids, accounts          [][16]byte // pgx encodes [16]byte directly, and uuid.UUID through its text form
	amounts, captured      []int64
	statuses               []string
	endedAt                []*time.Time
	endedPositions         []*int64
	transfers              []uuid.NullUUID
	currencies, references []string
	metadata               []*string
	expiresAt              []*time.Time
	placedAt               []time.Time
	placedPositions        []int64
}

func (c *holdColumns) add(r *holdRow) {
	c.ids = append(c.ids, r.id)
	c.accounts = append(c.accounts, r.accountID)
	c.amounts = append(c.amounts, r.amount)
	c.captured = append(c.captured, r.captured)
	c.statuses = append(c.statuses, string(r.status))
	c.endedAt = append(c.endedAt, r.endedAt)
	c.endedPositions = append(c.endedPositions, r.endedPosition)
	c.transfers = append(c.transfers, r.transferID)
	if r.placed == nil {
		return
	}
	c.currencies = append(c.currencies, r.placed.Amount.Currency().Code())
	c.references = append(c.references, r.placed.Reference)
	c.metadata = append(c.metadata, metadataText(r.placed.Metadata))
	var expiresAt *time.Time
	if !r.placed.ExpiresAt.IsZero() {
		expiresAt = &r.placed.ExpiresAt
	}
	c.expiresAt = append(c.expiresAt, expiresAt)
	c.placedAt = append(c.placedAt, r.at.RecordedAt)
	c.placedPositions = append(c.placedPositions, r.at.Position)
}

func (c *holdColumns) insert(ctx context.Context, tx pgx.Tx, generation int64) error {
	if len(c.ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertHoldsSQL, generation, c.ids, c.accounts, c.amounts, c.captured, c.currencies, c.references, c.metadata,
		c.statuses, c.expiresAt, c.placedAt, c.placedPositions, c.endedAt, c.endedPositions, c.transfers)
	return err
}

func (c *holdColumns) update(ctx context.Context, tx pgx.Tx, generation int64) error {
	if len(c.ids) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, endHoldsSQL, generation, c.ids, c.accounts, c.amounts, c.captured, c.statuses, c.endedAt, c.endedPositions,
		c.transfers)
	if err != nil {
		return err
	}
	if n := int(tag.RowsAffected()); n != len(c.ids) {
		return fmt.Errorf("%d of %d holds are not open as their events say", len(c.ids)-n, len(c.ids))
	}
	return nil
}
