// Package client is for programs that use a Passbook server: it opens accounts, moves money, reads what it wrote, and
// follows the log.
//
//	c, err := client.New("http://127.0.0.1:8080", client.WithReadYourWrites())
//	account, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
//	_, err = c.Deposit(ctx, client.MoneyMovement{AccountID: account.AccountID, Amount: "12.34"})
//	balance, err := c.Balance(ctx, account.AccountID) // 12.34: it waits for the deposit
//
// Every command carries an Idempotency-Key, one made for it unless [Key] gives one, so that it can be sent again without
// being applied again. So a request that got no response, or was told to come later (429, 502, 503, 504), is sent again for
// as long as [WithRetryFor] says, after the time in Retry-After or else after pauses that grow, with some chance in them.
//
// What the server refuses is a *[Problem]:
//
//	var p *client.Problem
//	if errors.As(err, &p) && p.Code == "insufficient-funds" { … }
//
// The types, and the requests, are generated from the API's document (api/openapi.yaml). Amounts are decimal strings.
package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Client speaks to one server. Its methods may be called from several goroutines.
type Client struct {
	base     string // without a slash at the end
	http     *http.Client
	apiKey   string
	retryFor time.Duration
	// readYourWrites makes every query wait for wrote, the highest position that this client has written.
	readYourWrites bool
	wrote          atomic.Int64
}

// Option changes how a Client works.
type Option func(*Client)

// WithAPIKey sends a key with every request, as a bearer token.
func WithAPIKey(key string) Option { return func(c *Client) { c.apiKey = key } }

// WithHTTPClient sends requests by another http.Client, for its transport. Its Timeout should be 0, since it would end
// live streams too; bound calls by their contexts.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithRetryFor says for how long a request that may succeed later is sent again; 10 seconds unless said, with 0 it is
// sent once. The context of a call bounds it too.
func WithRetryFor(d time.Duration) Option { return func(c *Client) { c.retryFor = d } }

// WithReadYourWrites makes every query wait until the read models have what this client has written before. It knows
// nothing of what other clients write: hand them the position of a receipt, for [AtLeast].
func WithReadYourWrites() Option { return func(c *Client) { c.readYourWrites = true } }

// New makes a client of the server at a URL such as http://127.0.0.1:8080. It sends nothing yet.
func New(server string, opts ...Option) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("client: %q is not a URL such as http://127.0.0.1:8080", server)
	}
	c := &Client{base: strings.TrimRight(server, "/"), http: &http.Client{}, retryFor: 10 * time.Second}
	for _, opt := range opts {
		opt(c)
	}
	return c, nil
}

// Close closes connections that are kept for later requests. The client may still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Written is the highest position that this client has written, 0 when it has written nothing.
func (c *Client) Written() int64 { return c.wrote.Load() }

// remember keeps a position that was written, if it is the highest.
func (c *Client) remember(position int64) {
	for {
		had := c.wrote.Load()
		if had >= position || c.wrote.CompareAndSwap(had, position) {
			return
		}
	}
}

// pause waits, or returns the context's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
