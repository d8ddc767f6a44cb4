// Package load is the load generator of the benchmark: a closed loop over keep-alive connections, or a paced one, with
// HTTP/1.1 written and read by hand. It shares the processor with what it measures, so its own cost per request is
// kept down to two system calls and no allocation.
package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Mode is what the connections do.
type Mode string

// The modes.
const (
	// Open opens each account of the range once, and ends.
	Open Mode = "open"
	// Touch posts one deposit of 1.00 to each account of the range, and ends.
	Touch Mode = "touch"
	// Deposit posts deposits of 1.00 to accounts picked at random, each with a fresh Idempotency-Key.
	Deposit Mode = "deposit"
	// Balance reads balances of accounts picked at random.
	Balance Mode = "balance"
	// Visible does what Deposit does, and has one more connection that posts a deposit and then reads the balance with
	// min_position: from the one answer to the other is how long the commit took to become visible.
	Visible Mode = "visible"
	// Commands posts streams of deposits to POST /commands as NDJSON and reads the results while it writes.
	Commands Mode = "commands"
)

// Config is a run of the load generator. All fields but the ones that say otherwise are needed.
type Config struct {
	// Addr is the server's host:port.
	Addr  string
	Mode  Mode
	Conns int
	// Duration is the length of the window in which answers count. Open and Touch ignore it.
	Duration time.Duration
	// Rate is how many requests a second to send over all connections; 0 sends as fast as the answers come. Latencies
	// of a paced run count from when a request was due, not from when it could be sent.
	Rate float64
	// First is the number of the first account (see AccountID) and Accounts how many there are.
	First, Accounts int
	// Lines is the length of a stream of Commands.
	Lines int
	// Keys gives every item of Commands an idempotency key.
	Keys bool
}

// Quantiles are latencies in microseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
}

// Result is what a run saw.
type Result struct {
	// Requests counts the answers that came within the window and were as expected; with Commands, the items.
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"rate"`
	// Errors counts the requests that failed or were answered otherwise than expected; FirstError is one of them.
	Errors     int64     `json:"errors"`
	FirstError string    `json:"first_error,omitempty"`
	Latency    Quantiles `json:"latency"`
	// Visible is set by the mode of that name.
	Visible *Quantiles `json:"visible,omitempty"`
	// Unavailable is the status with which the server said that it does not have the route.
	Unavailable int `json:"unavailable,omitempty"`
	// CPUSeconds is what the load generator itself used; the caller fills it in.
	CPUSeconds float64 `json:"cpu_seconds"`
}

// grace is how long an answer that is due after the window may take before it is an error.
const grace = 20 * time.Second

// worker is one connection's loop. It ends at the deadline, or when ctx does.
type worker interface {
	run(ctx context.Context, start, deadline time.Time)
	counted() *tally
}

// tally is what one worker counted.
type tally struct {
	requests, errors int64
	firstError       error
	unavailable      int
	latency, visible histogram
}

func (t *tally) counted() *tally { return t }

func (t *tally) fail(err error) {
	if t.errors++; t.firstError == nil {
		t.firstError = err
	}
}

// Run runs the load until its window is over. An error means that it could not be run; requests that fail are counted
// in the Result.
func Run(ctx context.Context, c Config) (Result, error) {
	if c.Conns < 1 || c.Accounts < 1 {
		return Result{}, errors.New("load: at least one connection and one account are needed")
	}
	workers, err := c.workers()
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	deadline := start.Add(c.Duration)
	once := c.Mode == Open || c.Mode == Touch
	if once {
		deadline = start.Add(time.Hour)
	}
	var wait sync.WaitGroup
	for _, w := range workers {
		wait.Go(func() { w.run(ctx, start, deadline) })
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	window := c.Duration
	if once {
		window = time.Since(start)
	}
	return total(workers, window), nil
}

func (c *Config) workers() ([]worker, error) {
	nonce := make([]byte, 8)
	_, _ = rand.Read(nonce) // never fails
	ids := accountIDs(c.First, c.Accounts)
	var workers []worker
	for i := range c.Conns {
		key := newKey(hex.EncodeToString(nonce), i)
		pick := newPicker(ids, uint64(i))
		var w worker
		switch c.Mode {
		case Open:
			w = &loop{addr: c.Addr, want: 201, next: each(ids, i, c.Conns, openRequest)}
		case Touch:
			w = &loop{addr: c.Addr, want: 201, next: each(ids, i, c.Conns, touchRequest)}
		case Deposit, Visible:
			w = &loop{addr: c.Addr, want: 201, next: depositRequests(pick, key), pace: newPace(c.Rate, i, c.Conns)}
		case Balance:
			w = &loop{addr: c.Addr, want: 200, next: balanceRequests(pick), pace: newPace(c.Rate, i, c.Conns)}
		case Commands:
			w = &stream{addr: c.Addr, lines: c.Lines, pick: pick, key: key, keyed: c.Keys}
		default:
			return nil, fmt.Errorf("load: no mode %q", c.Mode)
		}
		workers = append(workers, w)
	}
	if c.Mode == Visible {
		workers = append(workers, &sampler{
			addr: c.Addr, deposits: depositRequests(newPicker(ids, uint64(c.Conns)), newKey(hex.EncodeToString(nonce), c.Conns)),
		})
	}
	return workers, nil
}

func total(workers []worker, window time.Duration) Result {
	var sum tally
	for _, w := range workers {
		t := w.counted()
		sum.requests += t.requests
		sum.errors += t.errors
		if sum.firstError == nil {
			sum.firstError = t.firstError
		}
		sum.unavailable = max(sum.unavailable, t.unavailable)
		sum.latency.merge(&t.latency)
		sum.visible.merge(&t.visible)
	}
	r := Result{
		Requests: sum.requests, Errors: sum.errors, Seconds: window.Seconds(), Latency: sum.latency.quantiles(),
		Unavailable: sum.unavailable,
	}
	r.Rate = float64(r.Requests) / r.Seconds
	if sum.firstError != nil {
		r.FirstError = sum.firstError.Error()
	}
	if sum.visible.count > 0 {
		r.Visible = new(sum.visible.quantiles())
	}
	return r
}
