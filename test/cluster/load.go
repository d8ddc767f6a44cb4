package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// load deposits through the instances of a primary, and keeps what was acknowledged.
type load struct {
	servers []*process
	pace    *rate.Limiter

	// requests is held for reading during each request.
	requests sync.RWMutex

	mu           sync.Mutex
	acknowledged map[uuid.UUID]receipt // by event id
	attempts     int
	last         int64   // the highest position that was acknowledged since the last restore
	restores     []int64 // the last positions of the logs that were restored
}

// receipt is what was acknowledged: a position, and after how many restores.
type receipt struct {
	position int64
	epoch    int
}

// newLoad returns a load of at most perSecond deposits a second, 0 for as many as the clients can send.
func newLoad(servers []*process, perSecond int) *load {
	limit := rate.Limit(perSecond)
	if perSecond == 0 {
		limit = rate.Inf
	}
	return &load{servers: servers, pace: rate.NewLimiter(limit, 1), acknowledged: make(map[uuid.UUID]receipt)}
}

// epoch returns how many times the primary was restored.
func (l *load) epoch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.restores)
}

// highest returns the highest position that was acknowledged since the last restore.
func (l *load) highest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// restored says that the primary was restored to a log that ends at head. No server may run, so that every request that was sent before
// has ended.
func (l *load) restored(head int64) {
	l.requests.Lock()
	defer l.requests.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restores = append(l.restores, head)
	l.last = head
}

// undone reports whether a restore has removed the event of a receipt.
func (l *load) undone(r receipt) bool {
	return slices.ContainsFunc(l.restores[r.epoch:], func(head int64) bool { return r.position > head })
}

// deposits opens an account and deposits, one after another, until ctx ends. Each command has a key and is sent again, to the next
// instance, until it is acknowledged.
func (l *load) deposits(ctx context.Context, n int) error {
	account := uuid.New()
	server := n
	body := fmt.Sprintf(`{"account_id":%q,"owner":"Client %d","currency":"EUR"}`, account, n)
	path := "/accounts"
	for l.pace.Wait(ctx) == nil {
		key := uuid.NewString()
		for {
			ok, err := l.send(ctx, l.servers[server%len(l.servers)], path, key, body)
			if err != nil || ctx.Err() != nil {
				return err
			}
			server++
			if ok {
				break
			}
			sleep(ctx, 20*time.Millisecond)
		}
		path, body = "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"0.01","reference":"r%d"}`, account, server)
	}
	return nil
}

// send sends a command once. It returns false if the outcome is unknown, and an error if the command was refused.
func (l *load) send(ctx context.Context, p *process, path, key, body string) (bool, error) {
	l.requests.RLock()
	defer l.requests.RUnlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", `"`+key+`"`)
	resp, err := p.client.Do(req)
	l.mu.Lock()
	l.attempts++
	l.mu.Unlock()
	if err != nil {
		return false, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil, resp.StatusCode >= 500, resp.StatusCode == http.StatusConflict:
		return false, nil // cut off; 409: the first request with the key is in flight
	case resp.StatusCode != http.StatusCreated:
		return false, fmt.Errorf("%s%s: %d %s", p.name, path, resp.StatusCode, text)
	}
	var done struct {
		EventID  uuid.UUID `json:"event_id"`
		Position int64     `json:"position"`
	}
	if err := json.Unmarshal(text, &done); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[done.EventID] = receipt{done.Position, len(l.restores)}
	l.last = max(l.last, done.Position)
	return true, nil
}
