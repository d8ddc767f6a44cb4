package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// CommandOption changes one command.
type CommandOption func(*commandOptions)

type commandOptions struct {
	key, ifMatch string
	replayed     *bool
	dryRun       *DryRunResult
}

// Key sets the command's Idempotency-Key, for a caller with a natural key such as an invoice number: the same command from
// another process, or a later run, is then applied once. Without it each call has a new key, which covers only the retries
// of this package.
func Key(key string) CommandOption { return func(o *commandOptions) { o.key = key } }

// IfVersion applies the command only if the account is at this version. Otherwise it fails with a *Problem with status 412,
// which has the account's version.
func IfVersion(version int64) CommandOption {
	return func(o *commandOptions) { o.ifMatch = `"` + strconv.FormatInt(version, 10) + `"` }
}

// Replayed stores whether the response repeats that of an earlier request with the same key.
func Replayed(into *bool) CommandOption { return func(o *commandOptions) { o.replayed = into } }

// DryRun decides the command without applying it, and stores in into the events that it would append and the account after
// them. The receipt is then nil. A command that would be refused returns the *Problem that it would get.
func DryRun(into *DryRunResult) CommandOption { return func(o *commandOptions) { o.dryRun = into } }

func newKey() string { return rand.Text() }

func commandOptionsOf(opts []CommandOption) commandOptions {
	var o commandOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.key == "" {
		o.key = newKey()
	}
	return o
}

// written is a receipt that has a position.
type written interface{ writtenAt() int64 }

func (r *Receipt) writtenAt() int64 { return r.Position }

func (r *TransferReceipt) writtenAt() int64 { return r.Position }

func (r *HoldReceipt) writtenAt() int64 { return r.Position }

func (r *CaptureReceipt) writtenAt() int64 { return r.Position }

func (r *ReversalReceipt) writtenAt() int64 { return r.Position }

// command sends a command and remembers what it has written.
func command[T any, P interface {
	*T
	written
}](c *Client, o *commandOptions, req *http.Request, err error) (P, error) {
	if o.dryRun != nil && err == nil {
		return nil, dryRun(c, o, req)
	}
	receipt, header, err := ask[T](c, again, req, err)
	if err != nil {
		return nil, err
	}
	if o.replayed != nil {
		*o.replayed = header.Get("Idempotency-Replayed") == "true"
	}
	c.remember(P(receipt).writtenAt())
	return receipt, nil
}

// dryRun sends a command to be decided and not applied.
func dryRun(c *Client, o *commandOptions, req *http.Request) error {
	values := req.URL.Query()
	values.Set("dry_run", "true")
	req.URL.RawQuery = values.Encode()
	result, _, err := ask[DryRunResult](c, again, req, nil)
	if err != nil {
		return err
	}
	*o.dryRun = *result
	return nil
}

// Open opens an account. Without AccountID the server makes an id, which is in the receipt.
func (c *Client) Open(ctx context.Context, account OpenAccount, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	req, err := newOpenAccountRequest(ctx, c.base, &openAccountParams{IdempotencyKey: o.key}, account)
	return command[Receipt](c, &o, req, err)
}

// Deposit puts money into an account.
func (c *Client) Deposit(ctx context.Context, m MoneyMovement, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	req, err := newDepositRequest(ctx, c.base, &depositParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, m)
	return command[Receipt](c, &o, req, err)
}

// Withdraw takes money out of an account.
func (c *Client) Withdraw(ctx context.Context, m MoneyMovement, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	req, err := newWithdrawRequest(ctx, c.base, &withdrawParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, m)
	return command[Receipt](c, &o, req, err)
}

// Transfer moves money between two accounts, in both or in neither. [IfVersion] applies to the sending account.
func (c *Client) Transfer(ctx context.Context, t Transfer, opts ...CommandOption) (*TransferReceipt, error) {
	o := commandOptionsOf(opts)
	req, err := newTransferRequest(ctx, c.base, &transferParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, t)
	return command[TransferReceipt](c, &o, req, err)
}

// Suspend blocks the movement of money on an account. The reason may be empty.
func (c *Client) Suspend(ctx context.Context, id uuid.UUID, reason string, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	params := &suspendAccountParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}
	req, err := newSuspendAccountRequest(ctx, c.base, id, params, StatusChange{Reason: reason})
	return command[Receipt](c, &o, req, err)
}

// Reactivate ends the suspension of an account. The reason may be empty.
func (c *Client) Reactivate(ctx context.Context, id uuid.UUID, reason string, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	params := &reactivateAccountParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}
	req, err := newReactivateAccountRequest(ctx, c.base, id, params, StatusChange{Reason: reason})
	return command[Receipt](c, &o, req, err)
}

// CloseAccount closes an account with a zero balance, permanently. The reason may be empty.
func (c *Client) CloseAccount(ctx context.Context, id uuid.UUID, reason string, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	params := &closeAccountParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}
	req, err := newCloseAccountRequest(ctx, c.base, id, params, StatusChange{Reason: reason})
	return command[Receipt](c, &o, req, err)
}

// ChangeAccount changes the owner, the overdraft limit or the metadata of an account, or several of them.
func (c *Client) ChangeAccount(ctx context.Context, id uuid.UUID, change ChangeAccount, opts ...CommandOption) (*Receipt, error) {
	o := commandOptionsOf(opts)
	req, err := newChangeAccountRequest(ctx, c.base, id, &changeAccountParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, change)
	return command[Receipt](c, &o, req, err)
}

// PlaceHold reserves money of an account. Without HoldID the server makes an id, which is in the receipt.
func (c *Client) PlaceHold(ctx context.Context, id uuid.UUID, hold PlaceHold, opts ...CommandOption) (*HoldReceipt, error) {
	o := commandOptionsOf(opts)
	req, err := newPlaceHoldRequest(ctx, c.base, id, &placeHoldParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, hold)
	return command[HoldReceipt](c, &o, req, err)
}

// CaptureHold takes the money of a hold, or a part of it, and releases the rest. The zero CaptureHold pays out all of it.
func (c *Client) CaptureHold(
	ctx context.Context, id, holdID uuid.UUID, capture CaptureHold, opts ...CommandOption,
) (*CaptureReceipt, error) {
	o := commandOptionsOf(opts)
	req, err := newCaptureHoldRequest(ctx, c.base, id, holdID, &captureHoldParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, capture)
	return command[CaptureReceipt](c, &o, req, err)
}

// ReleaseHold ends a hold; its money is available again. The reason may be empty.
func (c *Client) ReleaseHold(ctx context.Context, id, holdID uuid.UUID, reason string, opts ...CommandOption) (*HoldReceipt, error) {
	o := commandOptionsOf(opts)
	params := &releaseHoldParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}
	req, err := newReleaseHoldRequest(ctx, c.base, id, holdID, params, ReleaseHold{Reason: reason})
	return command[HoldReceipt](c, &o, req, err)
}

// Reverse moves back what a deposit, a withdrawal or a transfer has moved, or a part of it. [IfVersion] is about the account of
// the movement that is named.
func (c *Client) Reverse(ctx context.Context, reverse Reverse, opts ...CommandOption) (*ReversalReceipt, error) {
	o := commandOptionsOf(opts)
	req, err := newReverseRequest(ctx, c.base, &reverseParams{IdempotencyKey: o.key, IfMatch: o.ifMatch}, reverse)
	return command[ReversalReceipt](c, &o, req, err)
}

// Result is the outcome of one of many commands: a receipt, or a problem.
type Result struct {
	// Status is the HTTP status that the command alone would have got.
	Status int
	// Replayed reports that the key was used before, and that this is the outcome of that command.
	Replayed bool
	// Receipt is nil if the command was refused. A transfer's receipt is that of the sending account.
	Receipt *Receipt
	// Problem is nil if the command was applied.
	Problem *Problem
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Result) UnmarshalJSON(text []byte) error {
	var outcome struct {
		Status   int  `json:"status"`
		Replayed bool `json:"replayed"`
	}
	if err := json.Unmarshal(text, &outcome); err != nil {
		return fmt.Errorf("client: result: %w", err)
	}
	*r = Result{Status: outcome.Status, Replayed: outcome.Replayed}
	if outcome.Status >= http.StatusMultipleChoices {
		r.Problem = problemOf(outcome.Status, text)
		return nil
	}
	r.Receipt = new(Receipt)
	if err := json.Unmarshal(text, r.Receipt); err != nil {
		return fmt.Errorf("client: result: %w", err)
	}
	return nil
}

// RunAll runs many commands in one request, and returns one result per command, in order. A refused command fails alone, so
// check the results. Commands on one account are applied in the given order.
//
// A command without IdempotencyKey gets one, which is stored in commands: even if the call fails, the same slice can be run
// again, and no command is applied twice. Commands whose result is 503 are retried with their keys for as long as
// [WithRetryFor] says; later commands on the same account may be applied before them.
func (c *Client) RunAll(ctx context.Context, commands []Command) ([]Result, error) {
	return c.runWithRetries(ctx, commands, &runCommandsParams{}, func(results []Result) (open []int) {
		for i := range results {
			if results[i].Status == http.StatusServiceUnavailable {
				open = append(open, i)
			}
		}
		return open
	})
}

// RunAtomic is RunAll for at most 1,000 commands that are applied together or not at all. If one is refused, the others
// have the problem not-applied.
func (c *Client) RunAtomic(ctx context.Context, commands []Command) ([]Result, error) {
	return c.runWithRetries(ctx, commands, &runCommandsParams{Atomic: true}, func(results []Result) (open []int) {
		unavailable := func(r Result) bool { return r.Status == http.StatusServiceUnavailable }
		if !slices.ContainsFunc(results, unavailable) {
			return nil
		}
		for i := range results {
			open = append(open, i)
		}
		return open
	})
}

// runWithRetries runs commands, and retries those that unsettled selects by their results.
func (c *Client) runWithRetries(
	ctx context.Context, commands []Command, params *runCommandsParams, unsettled func([]Result) []int,
) ([]Result, error) {
	for i := range commands {
		if commands[i].IdempotencyKey == "" {
			commands[i].IdempotencyKey = newKey()
		}
	}
	deadline := time.Now().Add(c.retryFor)
	results, err := c.run(ctx, commands, params)
	for grown := firstPause; err == nil; grown = min(2*grown, longestPause) {
		open := unsettled(results)
		wait := jittered(grown)
		if len(open) == 0 || time.Now().Add(wait).After(deadline) || pause(ctx, wait) != nil {
			break
		}
		rest := make([]Command, len(open))
		for n, i := range open {
			rest[n] = commands[i]
		}
		settled, err := c.run(ctx, rest, params)
		if err != nil {
			break // the results say which commands are not settled
		}
		for n, i := range open {
			results[i] = settled[n]
		}
	}
	return results, err
}

func (c *Client) run(ctx context.Context, commands []Command, params *runCommandsParams) ([]Result, error) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range commands {
		if err := encoder.Encode(&commands[i]); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
	}
	req, err := newRunCommandsRequestWithBody(ctx, c.base, params, "application/x-ndjson", bytes.NewReader(lines.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	got, err := c.send(req, again)
	if err != nil {
		return nil, err
	}
	results := slices.Grow([]Result(nil), len(commands))
	for decoder := json.NewDecoder(bytes.NewReader(got.body)); ; {
		var one Result
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		if one.Receipt != nil {
			c.remember(one.Receipt.Position)
		}
		results = append(results, one)
	}
	if len(results) != len(commands) {
		return nil, fmt.Errorf("client: %d commands have %d results", len(commands), len(results))
	}
	return results, nil
}
