// Package client is for programs that use a Passbook server: it opens accounts, moves money, reads what it wrote, and
// follows the log.
//
//	c, err := client.New("http://127.0.0.1:8080", client.WithReadYourWrites())
//	account, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
//	_, err = c.Deposit(ctx, client.MoneyMovement{AccountID: account.AccountID, Amount: "12.34"})
//	balance, err := c.Balance(ctx, account.AccountID) // 12.34: it waits for the deposit
//
// Every command carries an Idempotency-Key, generated unless [Key] sets one, so that sending it again does not apply it
// again. So a request that got no response, or a status that asks to retry (429, 502, 503, 504), is retried for as long as
// [WithRetryFor] says, after the time in Retry-After or else with exponential backoff and jitter.
//
// A request that the server refuses fails with a *[Problem]:
//
//	var p *client.Problem
//	if errors.As(err, &p) && p.Code == "insufficient-funds" { … }
//
// Types and requests are generated from the API's document (api/openapi.yaml). Amounts are decimal strings.
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

// Client calls one server. Its methods may be called from several goroutines.
type Client struct {
	base     string // without a slash at the end
	http     *http.Client
	apiKey   string
	retryFor time.Duration
	// readYourWrites makes every query wait for wrote, the highest position that this client has written.
	readYourWrites bool
	wrote          atomic.Int64
}

// Option configures a Client.
type Option func(*Client)

// WithAPIKey sends a key with every request, as a bearer token.
func WithAPIKey(key string) Option { return func(c *Client) { c.apiKey = key } }

// WithHTTPClient sends requests by another http.Client, for its transport. Its Timeout should be 0, since it would end
// live streams too; bound calls by their contexts.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithRetryFor sets how long a request that may succeed later is retried: 10 seconds by default; with 0 it is sent once.
// The context of a call limits it too.
func WithRetryFor(d time.Duration) Option { return func(c *Client) { c.retryFor = d } }

// WithReadYourWrites makes every query wait until the read models include what this client has written. It does not know
// what other clients write: for that, use [AtLeast] with the position of a receipt.
func WithReadYourWrites() Option { return func(c *Client) { c.readYourWrites = true } }

// New returns a client of the server at a URL such as http://127.0.0.1:8080. It sends nothing, and fails if the URL is invalid.
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

// Close closes idle connections. The client may still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Written returns the highest position that this client has written, or 0 if it has written nothing.
func (c *Client) Written() int64 { return c.wrote.Load() }

// remember stores a written position if it is the highest.
func (c *Client) remember(position int64) {
	for {
		had := c.wrote.Load()
		if had >= position || c.wrote.CompareAndSwap(had, position) {
			return
		}
	}
}

// pause waits, or returns the context's error if that ends first.
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
