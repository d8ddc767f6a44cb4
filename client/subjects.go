package client

import (
	"context"

	"github.com/google/uuid"
)

// EraseSubject erases a person: the names, references, reasons and metadata of all accounts that were opened for the subject. It
// cannot be undone. It takes two to three seconds, and may be repeated.
func (c *Client) EraseSubject(ctx context.Context, id uuid.UUID) (*Erasure, error) {
	req, err := newEraseSubjectRequest(ctx, c.base, id)
	erasure, _, err := ask[Erasure](c, again, req, err)
	if err != nil {
		return nil, err
	}
	c.remember(erasure.Position)
	return erasure, nil
}
