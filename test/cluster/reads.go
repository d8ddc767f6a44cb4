package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// readers is how many connections read at once.
const readers = 64

// readBalances reads balances over keep-alive connections, each one request after another, and returns requests a second and how long
// they took. It writes and reads HTTP itself, because it shares the processors with what it measures.
func (p *process) readBalances(ctx context.Context, accounts []uuid.UUID, d time.Duration) (float64, string, error) {
	var mu sync.Mutex
	var all []time.Duration
	began := time.Now()
	var group errgroup.Group
	for n := range readers {
		group.Go(func() error {
			took, err := p.readLoop(ctx, accounts[n%len(accounts)], began.Add(d))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return err
		})
	}
	err := group.Wait()
	return float64(len(all)) / time.Since(began).Seconds(), quantiles(all), err
}

// readLoop reads one account's balance until a time.
func (p *process) readLoop(ctx context.Context, account uuid.UUID, until time.Time) ([]time.Duration, error) {
	host := strings.TrimPrefix(p.url, "http://")
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	request := fmt.Appendf(nil, "GET /accounts/%s/balance HTTP/1.1\r\nHost: %s\r\n\r\n", account, host)
	var took []time.Duration
	for r := bufio.NewReader(conn); ; {
		at := time.Now()
		if at.After(until) {
			return took, nil
		}
		_, err := conn.Write(request)
		if err == nil {
			err = readOK(r)
		}
		if err != nil {
			return took, fmt.Errorf("%s: read a balance: %w", p.name, err)
		}
		took = append(took, time.Since(at))
	}
}

// readOK reads a response with status 200 and a Content-Length.
func readOK(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && string(line) != "HTTP/1.1 200 OK\r\n":
			return errors.New(strings.TrimSpace(string(line)))
		case len(line) == 2:
			_, err := r.Discard(length)
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
}
