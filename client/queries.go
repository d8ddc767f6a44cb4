package client

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// QueryOption changes one query.
type QueryOption func(*queryOptions)

type queryOptions struct {
	atLeast int64
	wait    time.Duration
	applied *int64
}

// AtLeast makes the query wait until the read model has applied this position of the log, for example that of a receipt.
func AtLeast(position int64) QueryOption {
	return func(o *queryOptions) { o.atLeast = max(o.atLeast, position) }
}

// WaitAtMost limits how long the server waits for the position, in whole seconds: 5 s by default, 30 s at most. If the
// position is not reached by then, the client retries the query for as long as [WithRetryFor] says.
func WaitAtMost(d time.Duration) QueryOption { return func(o *queryOptions) { o.wait = d } }

// Applied stores the position that the read model had applied at the time of the query.
func Applied(into *int64) QueryOption { return func(o *queryOptions) { o.applied = into } }

func (c *Client) queryOptionsOf(opts []QueryOption) queryOptions {
	var o queryOptions
	for _, opt := range opts {
		opt(&o)
	}
	o.atLeast = c.atLeast(o.atLeast)
	return o
}

// atLeast is the position to wait for, if the caller names one.
func (c *Client) atLeast(position int64) int64 {
	if c.readYourWrites {
		return max(position, c.wrote.Load())
	}
	return position
}

func (o *queryOptions) prefer() string {
	if o.wait <= 0 {
		return ""
	}
	return "wait=" + strconv.FormatInt(int64(o.wait.Round(time.Second)/time.Second), 10)
}

func query[T any](c *Client, o *queryOptions, req *http.Request, err error) (*T, error) {
	got, header, err := ask[T](c, again, req, err)
	if err != nil {
		return nil, err
	}
	if o.applied != nil {
		if *o.applied, err = strconv.ParseInt(header.Get("Passbook-Position"), 10, 64); err != nil {
			return nil, fmt.Errorf("client: Passbook-Position: %w", err)
		}
	}
	return got, nil
}

// Balance reads an account's balance.
func (c *Client) Balance(ctx context.Context, id uuid.UUID, opts ...QueryOption) (*Balance, error) {
	return c.balance(ctx, id, getBalanceParams{}, opts)
}

// BalanceAt reads an account's balance as of a time, which must not be in the future.
func (c *Client) BalanceAt(ctx context.Context, id uuid.UUID, at time.Time, opts ...QueryOption) (*Balance, error) {
	return c.balance(ctx, id, getBalanceParams{At: at.UTC()}, opts)
}

// BalanceAtPosition reads an account's balance as of a position of the log.
func (c *Client) BalanceAtPosition(ctx context.Context, id uuid.UUID, position int64, opts ...QueryOption) (*Balance, error) {
	return c.balance(ctx, id, getBalanceParams{AtPosition: position}, opts)
}

func (c *Client) balance(ctx context.Context, id uuid.UUID, params getBalanceParams, opts []QueryOption) (*Balance, error) {
	o := c.queryOptionsOf(opts)
	params.MinPosition, params.Prefer = o.atLeast, o.prefer()
	req, err := newGetBalanceRequest(ctx, c.base, id, &params)
	return query[Balance](c, &o, req, err)
}

// Account reads an account, with totals and times.
func (c *Client) Account(ctx context.Context, id uuid.UUID, opts ...QueryOption) (*Account, error) {
	o := c.queryOptionsOf(opts)
	req, err := newGetAccountRequest(ctx, c.base, id, &getAccountParams{MinPosition: o.atLeast, Prefer: o.prefer()})
	return query[Account](c, &o, req, err)
}

// Totals reads the trial balance.
func (c *Client) Totals(ctx context.Context, opts ...QueryOption) ([]Total, error) {
	o := c.queryOptionsOf(opts)
	req, err := newGetTotalsRequest(ctx, c.base, &getTotalsParams{MinPosition: o.atLeast, Prefer: o.prefer()})
	list, err := query[TotalList](c, &o, req, err)
	if err != nil {
		return nil, err
	}
	return list.Totals, nil
}

// Stats reads the live statistics.
func (c *Client) Stats(ctx context.Context, opts ...QueryOption) (*Stats, error) {
	o := c.queryOptionsOf(opts)
	req, err := newGetStatsRequest(ctx, c.base, &getStatsParams{MinPosition: o.atLeast, Prefer: o.prefer()})
	return query[Stats](c, &o, req, err)
}

// Accounts iterates over the accounts that the parameters select, reading pages as needed. It stops at an error.
func (c *Client) Accounts(ctx context.Context, params ListAccountsParams) iter.Seq2[Account, error] {
	params.MinPosition = c.atLeast(params.MinPosition)
	return pages(func(cursor string) ([]Account, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newListAccountsRequest(ctx, c.base, &params)
		page, _, err := ask[AccountPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Accounts, page.NextCursor, nil
	})
}

// Statement iterates over the movements of money on an account, newest first unless the parameters say otherwise, reading
// pages as needed. It stops at an error.
func (c *Client) Statement(ctx context.Context, id uuid.UUID, params ListTransactionsParams) iter.Seq2[Transaction, error] {
	params.MinPosition = c.atLeast(params.MinPosition)
	return pages(func(cursor string) ([]Transaction, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newListTransactionsRequest(ctx, c.base, id, &params)
		page, _, err := ask[TransactionPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Transactions, page.NextCursor, nil
	})
}

// Hold reads a hold of an account, open or not.
func (c *Client) Hold(ctx context.Context, id, holdID uuid.UUID, opts ...QueryOption) (*Hold, error) {
	o := c.queryOptionsOf(opts)
	req, err := newGetHoldRequest(ctx, c.base, id, holdID, &getHoldParams{MinPosition: o.atLeast, Prefer: o.prefer()})
	return query[Hold](c, &o, req, err)
}

// Holds goes through the holds of an account that the parameters select, page by page, as far as the caller reads. An error
// ends it.
func (c *Client) Holds(ctx context.Context, id uuid.UUID, params ListHoldsParams) iter.Seq2[Hold, error] {
	params.MinPosition = c.atLeast(params.MinPosition)
	return pages(func(cursor string) ([]Hold, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newListHoldsRequest(ctx, c.base, id, &params)
		page, _, err := ask[HoldPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Holds, page.NextCursor, nil
	})
}

// ExpiringHolds goes through the open holds of all accounts that expire and that the parameters select, the next to expire first, page
// by page, as far as the caller reads. An error ends it.
func (c *Client) ExpiringHolds(ctx context.Context, params ListExpiringHoldsParams) iter.Seq2[Hold, error] {
	params.MinPosition = c.atLeast(params.MinPosition)
	return pages(func(cursor string) ([]Hold, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newListExpiringHoldsRequest(ctx, c.base, &params)
		page, _, err := ask[ExpiringHoldPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Holds, page.NextCursor, nil
	})
}

// Me reads who the caller is and what it may do, and whether the server takes commands.
func (c *Client) Me(ctx context.Context) (*Me, error) {
	req, err := newWhoAmIRequest(ctx, c.base)
	me, _, err := ask[Me](c, again, req, err)
	return me, err
}

// TransferByID reads both sides of a transfer.
func (c *Client) TransferByID(ctx context.Context, transferID uuid.UUID, opts ...QueryOption) (*TransferDetails, error) {
	o := c.queryOptionsOf(opts)
	req, err := newGetTransferRequest(ctx, c.base, transferID, &getTransferParams{MinPosition: o.atLeast, Prefer: o.prefer()})
	return query[TransferDetails](c, &o, req, err)
}

// Movements goes through the movements of money on all accounts that the parameters select, the newest first unless they say
// otherwise, page by page, as far as the caller reads. An error ends it.
func (c *Client) Movements(ctx context.Context, params SearchTransactionsParams) iter.Seq2[Transaction, error] {
	params.MinPosition = c.atLeast(params.MinPosition)
	return pages(func(cursor string) ([]Transaction, *string, error) {
		params := params
		if cursor != "" {
			params.Cursor = cursor
		}
		req, err := newSearchTransactionsRequest(ctx, c.base, &params)
		page, _, err := ask[MovementPage](c, again, req, err)
		if err != nil {
			return nil, nil, err
		}
		return page.Transactions, page.NextCursor, nil
	})
}

// AccountStatement reads the statement of an account over a period: the opening and the closing balance, and the movements
// between. The zero from is the opening of the account, and the zero to is now. A statement of the past never changes.
func (c *Client) AccountStatement(
	ctx context.Context, id uuid.UUID, from, to time.Time, opts ...QueryOption,
) (*AccountStatement, error) {
	o := c.queryOptionsOf(opts)
	params := getStatementParams{From: from.UTC(), To: to.UTC(), MinPosition: o.atLeast, Prefer: o.prefer()}
	req, err := newGetStatementRequest(ctx, c.base, id, &params)
	return query[AccountStatement](c, &o, req, err)
}

// AccountStatementCSV writes the statement of an account over a period to w, as CSV.
func (c *Client) AccountStatementCSV(ctx context.Context, id uuid.UUID, from, to time.Time, w io.Writer, opts ...QueryOption) error {
	o := c.queryOptionsOf(opts)
	params := getStatementParams{From: from.UTC(), To: to.UTC(), MinPosition: o.atLeast, Prefer: o.prefer()}
	req, err := newGetStatementRequest(ctx, c.base, id, &params)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", "text/csv")
	got, err := c.send(req, again)
	if err != nil {
		return err
	}
	_, err = w.Write(got.body)
	return err
}

// pages iterates over the pages that get returns, beginning with the cursor "", until there is no next one.
func pages[T any](get func(cursor string) ([]T, *string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			page, next, err := get(cursor)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, one := range page {
				if !yield(one, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			cursor = *next
		}
	}
}
