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
)

// load deposits through the instances of a primary, and keeps what was acknowledged.
type load struct {
	servers []*process

	// requests is held for reading during each request.
	requests sync.RWMutex

	mu           sync.Mutex
	perSecond    int
	due          time.Time // when the next deposit is
	opened       []uuid.UUID
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

// newLoad returns a load of at most perSecond deposits a second.
func newLoad(servers []*process, perSecond int) *load {
	return &load{servers: servers, perSecond: perSecond, acknowledged: make(map[uuid.UUID]receipt)}
}

// unlimited is a rate of as many deposits as the clients can send.
const unlimited = -1

// setRate changes how many deposits a second are sent at most.
func (l *load) setRate(perSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perSecond, l.due = perSecond, time.Now()
}

// wait waits until the next deposit is due, and reports false when ctx has ended.
func (l *load) wait(ctx context.Context) bool {
	for ctx.Err() == nil {
		l.mu.Lock()
		now, due := time.Now(), true
		pause := 20 * time.Millisecond
		switch {
		case l.perSecond == 0:
			due = false
		case l.perSecond > 0:
			// What could not be sent in time, while the primary was down, is not made up for.
			l.due = slices.MaxFunc([]time.Time{l.due, now.Add(-pause)}, time.Time.Compare)
			pause = l.due.Sub(now)
			l.due = l.due.Add(time.Second / time.Duration(l.perSecond))
		default:
			pause = 0
		}
		l.mu.Unlock()
		if sleep(ctx, pause); due {
			return ctx.Err() == nil
		}
	}
	return false
}

// count returns how many deposits were acknowledged, and accounts the accounts.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

func (l *load) accounts() []uuid.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.opened)
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
	for l.wait(ctx) {
		key := uuid.NewString()
		for {
			ok, err := l.send(ctx, l.servers[server%len(l.servers)], path, key, body)
			if err != nil || ctx.Err() != nil {
				return err
			}
			server++
			if ok && path == "/accounts" {
				l.mu.Lock()
				l.opened = append(l.opened, account)
				l.mu.Unlock()
			}
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
