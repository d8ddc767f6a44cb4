package query

import (
	"context"

	"github.com/google/uuid"
)

// Transfer is both sides of a transfer.
type Transfer struct {
	ID       uuid.UUID
	From, To Transaction
}

// Transfer returns a transfer and the position the read model had applied, which is valid with ErrTransferNotFound too. The error
// is ErrBehind when the wait ended first, or only one side has been applied.
func (s *Service) Transfer(ctx context.Context, id uuid.UUID, w Wait) (Transfer, int64, error) {
	l := &movementList{oldestFirst: true, limit: 2, asOf: "null", parked: "false"}
	l.and("t.transfer_id = %s and t.kind in ('i', 'o')", id)
	page, applied, err := s.movements(ctx, l, w)
	if err != nil {
		return Transfer{}, applied, err
	}
	switch len(page.movements) {
	case 0:
		return Transfer{}, applied, ErrTransferNotFound
	case 1:
		return Transfer{}, applied, ErrBehind
	}
	// The side that sends is first in the log.
	return Transfer{ID: id, From: page.movements[0], To: page.movements[1]}, applied, nil
}
