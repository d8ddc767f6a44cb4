package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// requestTimeout is when a client gives up on a response, and tries the next instance.
	requestTimeout = 10 * time.Second
	// settleTimeout is how long a client retries its last deposit when the load is over.
	settleTimeout = time.Minute
	retryPause    = 50 * time.Millisecond
	readPause     = 10 * time.Millisecond
)

// receipt acknowledges a deposit.
type receipt struct {
	EventID  uuid.UUID `json:"event_id"`
	Position int64     `json:"position"`
}

// acked is an acknowledged deposit; its reference is also its idempotency key.
type acked struct {
	receipt
	reference string
	at        time.Time
	tries     int
}

type load struct {
	urls     []string
	client   *http.Client
	accounts []uuid.UUID

	mu       sync.Mutex
	acked    []acked
	given    []string // references of deposits that were never acknowledged
	read     []time.Time
	readFail []string
	replayed int
}

func newLoad(urls []string) *load {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	return &load{urls: urls, client: &http.Client{Transport: transport, Timeout: requestTimeout}}
}

// answer is the response to a request.
type answer struct {
	status   int
	body     []byte
	replayed bool // a repeated response
}

func (a answer) String() string { return fmt.Sprintf("%d: %s", a.status, a.body) }

// do sends one request; an error means that there was no complete response.
func (l *load) do(ctx context.Context, method, url, key string, body any) (answer, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(content))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := l.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err = io.ReadAll(response.Body)
	return answer{response.StatusCode, content, response.Header.Get("Idempotency-Replayed") == "true"}, err
}

// open opens the accounts, and waits until each instance shows the last one.
func (l *load) open(ctx context.Context, n int) error {
	var last receipt
	for range n {
		id := uuid.New()
		got, err := l.do(ctx, http.MethodPost, l.urls[0]+"/accounts", "", map[string]string{"account_id": id.String(), "owner": "load", "currency": "EUR"})
		if err != nil {
			return err
		}
		if got.status != http.StatusCreated {
			return fmt.Errorf("open an account: %s", got)
		}
		if err := json.Unmarshal(got.body, &last); err != nil {
			return err
		}
		l.accounts = append(l.accounts, id)
	}
	for n := range l.urls {
		got, err := l.balance(ctx, n, l.accounts[len(l.accounts)-1], last.Position)
		if err != nil {
			return err
		}
		if got.status != http.StatusOK {
			return fmt.Errorf("read an account: %s", got)
		}
	}
	return nil
}

func (l *load) balance(ctx context.Context, n int, id uuid.UUID, position int64) (answer, error) {
	url := l.urls[n] + "/accounts/" + id.String() + "/balance"
	if position > 0 {
		url += "?min_position=" + strconv.FormatInt(position, 10)
	}
	return l.do(ctx, http.MethodGet, url, "", nil)
}

// deposits makes one deposit after another until ctx ends. It retries the last one until it is settled.
func (l *load) deposits(ctx context.Context, client int) error {
	for n := 0; ctx.Err() == nil; n++ {
		if err := l.deposit(ctx, client, fmt.Sprintf("c%d-%d", client, n)); err != nil {
			return err
		}
	}
	return nil
}

// deposit sends one deposit with its key, to one instance after another, until it is acknowledged. It retries if the
// database or the instance is unavailable; any other refusal is an error, since no deposit may be refused here.
func (l *load) deposit(ctx context.Context, client int, reference string) error {
	id := l.accounts[rand.IntN(len(l.accounts))]
	body := map[string]string{"account_id": id.String(), "amount": "0.01", "reference": reference}
	settle, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(settleTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-settle.Done():
		}
	})()
	for try := 1; settle.Err() == nil; try++ {
		got, err := l.do(settle, http.MethodPost, l.urls[(client+try)%len(l.urls)]+"/deposits", reference, body)
		switch {
		case err != nil: // no complete response: it may have been applied or not
		case got.status == http.StatusCreated:
			return l.acknowledged(reference, got, try)
		case got.status != http.StatusServiceUnavailable && got.status != http.StatusConflict:
			return fmt.Errorf("deposit %s: %s", reference, got)
		}
		pause(settle, retryPause)
	}
	l.mu.Lock()
	l.given = append(l.given, reference)
	l.mu.Unlock()
	return nil
}

func (l *load) acknowledged(reference string, got answer, tries int) error {
	a := acked{reference: reference, at: time.Now(), tries: tries}
	if err := json.Unmarshal(got.body, &a.receipt); err != nil {
		return fmt.Errorf("deposit %s: %w", reference, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, a)
	if got.replayed {
		l.replayed++
	}
	return nil
}

// reads reads balances from one instance until ctx ends. Each read must succeed: a replica serves it, whatever the leader does.
func (l *load) reads(ctx context.Context, n int) {
	for ctx.Err() == nil {
		got, err := l.balance(ctx, n, l.accounts[rand.IntN(len(l.accounts))], 0)
		failed := ""
		if err != nil {
			failed = err.Error()
		} else if got.status != http.StatusOK {
			failed = got.String()
		}
		if ctx.Err() != nil {
			break // the end of the load cut this read off
		}
		l.mu.Lock()
		if failed == "" {
			l.read = append(l.read, time.Now())
		} else {
			l.readFail = append(l.readFail, failed)
		}
		l.mu.Unlock()
		pause(ctx, readPause)
	}
}

// caughtUp waits until each instance shows the last acknowledged position.
func (l *load) caughtUp(ctx context.Context, out io.Writer) error {
	var last int64
	for i := range l.acked {
		last = max(last, l.acked[i].Position)
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for n := range l.urls {
		for {
			got, err := l.balance(ctx, n, l.accounts[0], last)
			if err == nil && got.status == http.StatusOK {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("instance %d does not show position %d: %w, %s", n+1, last, err, got)
			}
			pause(ctx, retryPause)
		}
	}
	fmt.Fprintf(out, "both instances show position %d\n", last)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// longest returns the longest time between two consecutive moments within a span.
func longest(moments []time.Time, from, to time.Time) time.Duration {
	var gap time.Duration
	last := from
	for _, m := range moments {
		if m.Before(from) || m.After(to) {
			continue
		}
		gap = max(gap, m.Sub(last))
		last = m
	}
	return gap
}

func (l *load) ackTimes() []time.Time {
	times := make([]time.Time, len(l.acked))
	for i := range l.acked {
		times[i] = l.acked[i].at
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}
