package client

import (
	"context"
	"iter"
)

// AccessRecords iterates over the records of the access audit, newest first.
func (c *Client) AccessRecords(ctx context.Context, params ListAccessParams) iter.Seq2[AccessRecord, error] {
	return pages(func(cursor string) ([]AccessRecord, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newListAccessRequest(ctx, c.base, &params)
		page, _, err := ask[AccessPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Records, page.NextCursor, nil
	})
}
