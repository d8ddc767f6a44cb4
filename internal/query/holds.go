package query

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/money"
	"passbook/internal/readmodel/column"
)

// Hold is an amount that is or was reserved on an account.
type Hold struct {
	ID, AccountID uuid.UUID
	Currency      money.Currency
	// Amount is what was held, and Captured what was taken of that, both in minor units of Currency.
	Amount, Captured int64
	// Status is "open", "captured", "released" or "expired".
	Status    string
	Reference string
	// Metadata is the caller's labels; nil when there are none.
	Metadata map[string]string
	// ExpiresAt is zero if the hold does not expire.
	ExpiresAt time.Time
	PlacedAt  time.Time
	// Position is that of the event that placed it.
	Position int64
	// EndedAt and EndedPosition are zero while it is open.
	EndedAt       time.Time
	EndedPosition int64
	// TransferID is the transfer that it was captured with, or the nil UUID.
	TransferID uuid.UUID
}

// HoldFilter selects a page of an account's holds, newest first. Zero values mean any.
type HoldFilter struct {
	// Status is that of a Hold.
	Status string
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
	// Count asks for the number of elements on all pages.
	Count bool
}

// ExpiringFilter selects a page of the open holds of all accounts that expire, the next one first.
type ExpiringFilter struct {
	// Before, unless it is nil, is a time that the holds expire before.
	Before *time.Time
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
	// Count asks for the number of elements on all pages.
	Count bool
}

// HoldPage is one page of holds.
type HoldPage struct {
	Holds []Hold
	// Next is the cursor of the page after this one, empty on the last.
	Next string
	// Total is nil unless it was asked for.
	Total *ListTotal
}

// holdStatuses are the statuses of holds by their names in the API.
var holdStatuses = map[string]column.HoldStatus{
	"open": column.HoldOpen, "captured": column.HoldCaptured, "released": column.HoldReleased, "expired": column.HoldExpired,
}

// holdsSQL reads holds in one statement. It returns at least one row; without holds, that row is null but for its first two columns.
// Its placeholders are the count, the conditions, the limit, which is a subquery for the reason given at movementsSQL, and the holdOrder.
const holdsSQL = `select p.position, %[1]s, h.hold_id, h.account_id, h.currency, h.amount, h.captured, h.status, h.reference, h.metadata,
       h.expires_at, h.placed_at, h.placed_position, h.ended_at, h.ended_position, h.transfer_id
from live_generations p
left join lateral (
    select * from holds h where h.generation = p.generation and %[2]s order by %[4]s) as h on true
where p.projection = '` + column.Holds + `'
order by %[5]s limit (select %[3]d)`

// holdOrder is an order of holds: selects orders and limits the rows that are read, and lists those that are returned.
type holdOrder struct{ selects, lists string }

// No index has the ids of holds that expire at the same time. With ties, the rows are read in the order of the index and only those few are
// sorted, whatever statistics PostgreSQL has.
var (
	newestFirst  = holdOrder{"h.placed_position desc fetch first (select %d) rows only", "h.placed_position desc"}
	nextToExpire = holdOrder{"h.expires_at fetch first (select %d) rows with ties", "h.expires_at, h.hold_id"}
)

func (o holdOrder) sql(count string, c *conditions, limit int) string {
	return fmt.Sprintf(holdsSQL, count, joined(c.where), limit, fmt.Sprintf(o.selects, limit), o.lists)
}

// Hold returns a hold of an account and the position the read model had applied, which is valid with ErrHoldNotFound too. The
// error is ErrBehind when the wait ended first.
func (s *Service) Hold(ctx context.Context, account, id uuid.UUID, w Wait) (Hold, int64, error) {
	var c conditions
	c.and("h.hold_id = %s and h.account_id = %s", id, account)
	found, _, applied, err := s.readHolds(ctx, newestFirst.sql("null::bigint", &c, 1), c.args, w)
	switch {
	case err != nil:
		return Hold{}, applied, err
	case len(found) == 0:
		return Hold{}, applied, ErrHoldNotFound
	}
	return found[0], applied, nil
}

// Holds returns a page of an account's holds and the position the read model had applied, which is valid with ErrNotFound too.
// The error is ErrBehind when the wait ended first, and ErrBadCursor when the cursor was not made for this account and status.
func (s *Service) Holds(ctx context.Context, account uuid.UUID, f HoldFilter, w Wait) (HoldPage, int64, error) {
	limit, list := min(max(f.Limit, 1), maxLimit), holdList(account, f)
	var c conditions
	c.and("h.account_id = %s", account)
	switch status, known := holdStatuses[f.Status]; {
	case f.Status == "":
	case known:
		c.and(`h.status = %s::text::"char"`, string(status))
	default:
		c.and("false")
	}
	count := c.countHolds(f.Count)
	if f.Cursor != "" {
		last, err := parseCursor(f.Cursor)
		if err != nil || last.list != list || last.byOwner {
			return HoldPage{}, 0, ErrBadCursor
		}
		c.and("h.placed_position < %s", last.position)
	}
	// The row after the last says whether there is another page.
	holds, counted, applied, err := s.readHolds(ctx, newestFirst.sql(count, &c, limit+1), c.args, w)
	if err != nil {
		return HoldPage{}, applied, err
	}
	if len(holds) == 0 { // this read model does not have accounts without holds
		if _, _, err := s.Account(ctx, account, w); err != nil {
			return HoldPage{}, applied, err
		}
	}
	page := HoldPage{Holds: holds, Total: totalOfList(counted)}
	if len(holds) > limit {
		page.Holds = holds[:limit]
		page.Next = cursor{list: list, position: holds[limit-1].Position}.String()
	}
	return page, applied, nil
}

// ExpiringHolds returns a page of the open holds of all accounts that expire, and the position the read model had applied. The error is
// ErrBehind when the wait ended first, and ErrBadCursor when the cursor was not made for this filter.
func (s *Service) ExpiringHolds(ctx context.Context, f ExpiringFilter, w Wait) (HoldPage, int64, error) {
	limit, list := min(max(f.Limit, 1), maxLimit), expiringList(f)
	var c conditions
	c.and(`h.status = '` + string(column.HoldOpen) + `' and h.expires_at is not null`) // as the index has it
	if f.Before != nil {
		c.and("h.expires_at < %s", *f.Before)
	}
	count := c.countHolds(f.Count)
	if f.Cursor != "" {
		// The text of the cursor, which others have for an owner, is the time.
		last, err := parseCursor(f.Cursor)
		expiresAt, notTime := time.Parse(time.RFC3339Nano, last.owner)
		if err != nil || last.list != list || notTime != nil {
			return HoldPage{}, 0, ErrBadCursor
		}
		c.and("(h.expires_at, h.hold_id) > (%s::timestamptz, %s::uuid)", expiresAt, last.id)
	}
	holds, counted, applied, err := s.readHolds(ctx, nextToExpire.sql(count, &c, limit+1), c.args, w)
	if err != nil {
		return HoldPage{}, applied, err
	}
	page := HoldPage{Holds: holds, Total: totalOfList(counted)}
	if len(holds) > limit {
		page.Holds = holds[:limit]
		last := &holds[limit-1]
		page.Next = cursor{list: list, byOwner: true, owner: last.ExpiresAt.Format(time.RFC3339Nano), id: last.ID}.String()
	}
	return page, applied, nil
}

// countHolds returns an expression for the number of holds that meet the conditions, or for null.
func (c *conditions) countHolds(wanted bool) string {
	if !wanted {
		return "null::bigint"
	}
	return fmt.Sprintf("(select count(*) from (select from holds h where h.generation = p.generation and %s limit %d) as n)", joined(c.where), maxTotal+1)
}

func expiringList(f ExpiringFilter) (id listID) {
	before := ""
	if f.Before != nil {
		before = f.Before.UTC().Format(time.RFC3339Nano)
	}
	sum := sha256.Sum256([]byte("expiring " + before))
	copy(id[:], sum[:])
	return id
}

// holdList identifies a list of holds.
func holdList(account uuid.UUID, f HoldFilter) (id listID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "holds %s %q", account, f.Status))
	copy(id[:], sum[:])
	return id
}

func (s *Service) readHolds(ctx context.Context, sql string, args []any, w Wait) (holds []Hold, counted *int64, applied int64, err error) {
	applied, err = s.monotonic(ctx, &s.holds, w, func() (applied int64, err error) {
		err = withRetry(ctx, s.pool, func(ctx context.Context) (err error) {
			rows, _ := s.pool.Query(ctx, sql, args...)
			holds, counted, applied, err = collectHolds(rows)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("query: holds: %w", err)
		}
		return applied, nil
	})
	return holds, counted, applied, err
}

func collectHolds(rows pgx.Rows) (holds []Hold, counted *int64, applied int64, err error) {
	holds = []Hold{}
	for rows.Next() {
		var (
			id, account, transfer          *uuid.UUID
			currency, reference            *string
			amount, captured, placed, over *int64
			status                         *column.HoldStatus
			metadata                       map[string]string
			expiresAt, placedAt, endedAt   *time.Time
		)
		if err = rows.Scan(&applied, &counted, &id, &account, &currency, &amount, &captured, &status, &reference, &metadata,
			&expiresAt, &placedAt, &placed, &endedAt, &over, &transfer); err != nil {
			return nil, nil, 0, err
		}
		if id == nil {
			continue
		}
		h := Hold{
			ID: *id, AccountID: *account, Amount: *amount, Captured: *captured, Reference: *reference, Metadata: metadata,
			ExpiresAt: orZero(expiresAt).UTC(), PlacedAt: placedAt.UTC(), Position: *placed,
			EndedAt: orZero(endedAt).UTC(), EndedPosition: orZero(over), TransferID: orZero(transfer),
		}
		var ok bool
		if h.Currency, ok = money.LookupCurrency(*currency); !ok {
			return nil, nil, 0, fmt.Errorf("hold %s has the unknown currency %q", h.ID, *currency)
		}
		for name, code := range holdStatuses {
			if code == *status {
				h.Status = name
			}
		}
		holds = append(holds, h)
	}
	return holds, counted, applied, rows.Err()
}
