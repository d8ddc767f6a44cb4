// Package load is the load generator of the benchmark: a closed or paced loop over keep-alive connections, with its own
// HTTP/1.1. It shares the processors with what it measures, so a request costs it only two system calls and no allocation.
package load

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
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
	// min_position: the time between the two responses is how long the commit took to become visible.
	Visible Mode = "visible"
	// Refused does what Deposit does, but every second request of a connection is a withdrawal beyond the balance, which
	// must be refused.
	Refused Mode = "refused"
	// Commands posts streams of deposits to POST /commands as NDJSON and reads the results while it writes.
	Commands Mode = "commands"
	// Beside does what Commands does, and has one more connection that does what Deposit does, counted separately.
	Beside Mode = "beside"
)

// Config configures a run of the load generator. Fields are required unless they say otherwise.
type Config struct {
	// Addr is the server's host:port. The connections are spread over several, with commas between them.
	Addr  string
	Mode  Mode
	Conns int
	// Duration is the length of the window in which responses count. Open and Touch ignore it.
	Duration time.Duration
	// Rate is how many requests a second to send over all connections; 0 sends as fast as responses arrive. Latencies
	// of a paced run count from when a request was due, not from when it could be sent.
	Rate float64
	// First is the number of the first account (see AccountID) and Accounts how many there are.
	First, Accounts int
	// Lines is the length of a stream of Commands and Beside.
	Lines int
	// Keys gives every item of a stream an idempotency key.
	Keys bool
}

// Quantiles are latencies in microseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
}

// Result is the result of a run.
type Result struct {
	// Requests counts the expected responses within the window; with Commands and Beside, the items.
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
	Rate     float64 `json:"rate"`
	// Errors counts the requests that failed or got an unexpected response; FirstError is one of them.
	Errors     int64     `json:"errors"`
	FirstError string    `json:"first_error,omitempty"`
	Latency    Quantiles `json:"latency"`
	// Visible and Beside are set by the modes with these names; Beside is the latency of the single deposits.
	Visible *Quantiles `json:"visible,omitempty"`
	Beside  *Quantiles `json:"beside,omitempty"`
	// Unavailable is the status that says the server does not have the route.
	Unavailable int `json:"unavailable,omitempty"`
	// CPUSeconds is what the load generator itself used; the caller fills it in.
	CPUSeconds float64 `json:"cpu_seconds"`
}

// grace is how long after the window a response may arrive before it is an error.
const grace = 20 * time.Second

// worker is one connection's loop. It ends at the deadline, or when ctx does.
type worker interface {
	run(ctx context.Context, start, deadline time.Time)
	counted() *tally
}

// tally has the counts of one worker.
type tally struct {
	requests, errors         int64
	firstError               error
	unavailable              int
	latency, visible, beside *Latencies
}

func newTally() tally {
	return tally{latency: NewLatencies(), visible: NewLatencies(), beside: NewLatencies()}
}

func (t *tally) counted() *tally { return t }

func (t *tally) fail(err error) {
	if t.errors++; t.firstError == nil {
		t.firstError = err
	}
}

// Run runs the load until its window is over. It fails if the load could not run; the Result counts failed requests.
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
	addrs := strings.Split(c.Addr, ",")
	var workers []worker
	for i := range c.Conns {
		addr := addrs[i%len(addrs)]
		key := newKey(hex.EncodeToString(nonce), i)
		pick := newPicker(ids, uint64(i))
		var w worker
		switch c.Mode {
		case Open:
			w = newLoop(addr, nil, expecting{each(ids, i, c.Conns, openRequest), 201})
		case Touch:
			w = newLoop(addr, nil, expecting{each(ids, i, c.Conns, touchRequest), 201})
		case Deposit, Visible:
			w = newLoop(addr, newPace(c.Rate, i, c.Conns), expecting{depositRequests(pick, key), 201})
		case Refused:
			w = newLoop(addr, nil, expecting{depositRequests(pick, key), 201}, expecting{refusedRequests(pick, key), 422})
		case Balance:
			w = newLoop(addr, newPace(c.Rate, i, c.Conns), expecting{balanceRequests(pick), 200})
		case Commands, Beside:
			w = &stream{tally: newTally(), addr: addr, lines: c.Lines, pick: pick, key: key, keyed: c.Keys}
		default:
			return nil, fmt.Errorf("load: no mode %q", c.Mode)
		}
		workers = append(workers, w)
	}
	alone := depositRequests(newPicker(ids, uint64(c.Conns)), newKey(hex.EncodeToString(nonce), c.Conns))
	switch c.Mode {
	case Visible:
		workers = append(workers, &sampler{tally: newTally(), addr: addrs[0], deposits: alone})
	case Beside:
		workers = append(workers, &single{newLoop(addrs[0], nil, expecting{alone, 201})})
	}
	return workers, nil
}

func total(workers []worker, window time.Duration) Result {
	sum := newTally()
	for _, w := range workers {
		t := w.counted()
		sum.requests += t.requests
		sum.errors += t.errors
		if sum.firstError == nil {
			sum.firstError = t.firstError
		}
		sum.unavailable = max(sum.unavailable, t.unavailable)
		sum.latency.merge(t.latency)
		sum.visible.merge(t.visible)
		sum.beside.merge(t.beside)
	}
	r := Result{
		Requests: sum.requests, Errors: sum.errors, Seconds: window.Seconds(), Latency: sum.latency.Quantiles(),
		Unavailable: sum.unavailable,
	}
	r.Rate = float64(r.Requests) / r.Seconds
	if sum.firstError != nil {
		r.FirstError = sum.firstError.Error()
	}
	if visible := sum.visible.Quantiles(); visible.Count > 0 {
		r.Visible = &visible
	}
	if beside := sum.beside.Quantiles(); beside.Count > 0 {
		r.Beside = &beside
	}
	return r
}
