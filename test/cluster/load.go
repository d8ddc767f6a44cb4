package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// load deposits through the instances of a primary, and keeps what was acknowledged.
type load struct {
	servers []*process

	mu           sync.Mutex
	acknowledged map[uuid.UUID]int64 // positions by event id
	attempts     int
}

func newLoad(servers []*process) *load {
	return &load{servers: servers, acknowledged: make(map[uuid.UUID]int64)}
}

// deposits opens an account and deposits, one after another, until ctx ends. Each command has a key and is sent again, to the next
// instance, until it is acknowledged.
func (l *load) deposits(ctx context.Context, n int) error {
	account := uuid.New()
	server := n
	body := fmt.Sprintf(`{"account_id":%q,"owner":"Client %d","currency":"EUR"}`, account, n)
	path := "/accounts"
	for {
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
}

// send sends a command once. It returns false if the outcome is unknown, and an error if the command was refused.
func (l *load) send(ctx context.Context, p *process, path, key, body string) (bool, error) {
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
	var receipt struct {
		EventID  uuid.UUID `json:"event_id"`
		Position int64     `json:"position"`
	}
	if err := json.Unmarshal(text, &receipt); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[receipt.EventID] = receipt.Position
	return true, nil
}
