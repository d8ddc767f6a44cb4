package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/command"
	"passbook/internal/httpapi/feed"
	"passbook/internal/projector"
	"passbook/internal/query"
)

// archivedEvents is a log that has the events from position first on.
type archivedEvents struct {
	events
	first int64
}

func (l *archivedEvents) Read(ctx context.Context, after, upTo int64, f feed.Filter, limit int) ([]feed.Event, error) {
	if after < l.first-1 {
		return nil, fmt.Errorf("wrapped: %w", &feed.ArchivedError{First: l.first})
	}
	return l.events.Read(ctx, after, upTo, f, limit)
}

// TestArchivedEvents asks for what needs events that are in the archive: each response says so, and from which position on there are
// events.
func TestArchivedEvents(t *testing.T) {
	t.Parallel()
	l := &archivedEvents{events{data: `{"amount": "12.34", "currency": "EUR"}`}, 100}
	l.head.Store(150)
	archived := &projector.ArchivedError{First: 100}
	a := serve(t, &service{
		feed:     feed.Config{Log: l, Poll: time.Millisecond},
		replay:   func(string) (projector.Replay, error) { return projector.Replay{}, archived },
		proofErr: fmt.Errorf("wrapped: %w", archived),
		past: func(query.AsOf, query.Wait) (query.BalanceAt, int64, error) {
			return query.BalanceAt{}, 0, &query.ArchivedError{First: 100}
		},
		period: func(_, _ *time.Time, _ query.Wait) (query.Period, int64, error) {
			return query.Period{}, 0, &query.ArchivedError{First: 100}
		},
	})
	account := "/accounts/" + accountID.String()
	for _, request := range [][2]string{
		{"GET", "/events"},
		{"GET", "/events?after=98"},
		{"GET", "/events?after=5&type=MoneyDeposited"},
		{"GET", "/events?after=5&subject=" + uuid.New().String()},
		{"GET", account + "/balance?at=2026-01-01T00:00:00Z"},
		{"GET", account + "/statement?from=2026-01-01T00:00:00Z"},
		{"GET", "/log/proofs/inclusion?position=5"},
		{"POST", "/projections/balances/replay"},
	} {
		got := a.send(request[0], request[1], "")
		var p struct {
			FirstPosition int64 `json:"first_position"`
		}
		if err := json.Unmarshal([]byte(got.text), &p); err != nil {
			t.Errorf("%v: %v", request, err)
		}
		if code, _ := got.problem(t); got.status != http.StatusGone || code != "events-archived" || p.FirstPosition != 100 {
			t.Errorf("%v: %d %s", request, got.status, got.text)
		}
	}
	if got := a.send("GET", "/events?after=99", ""); got.status != http.StatusOK || got.header.Get("Passbook-Position") != "150" {
		t.Errorf("%d %s", got.status, got.text)
	}
	a.follow("/events?after=99").take(100, 51)
}

// TestStreamOfArchivedEvents opens streams that begin in the archive: each has one event, the problem.
func TestStreamOfArchivedEvents(t *testing.T) {
	t.Parallel()
	l := &archivedEvents{events{data: `{"amount": "12.34", "currency": "EUR"}`}, 100}
	l.head.Store(150)
	a := serve(t, &service{feed: feed.Config{Log: l, Poll: time.Millisecond}})
	for _, s := range []*source{
		a.follow("/events?after=98"), a.follow("/events", "Last-Event-ID", "7"), a.follow("/events?after=0&type=AccountClosed"),
	} {
		var last sent
		for block, ok := s.next(); ok; block, ok = s.next() {
			last = block
		}
		var p struct {
			Code          string
			FirstPosition int64 `json:"first_position"`
		}
		if err := json.Unmarshal([]byte(last.data), &p); err != nil || p.Code != "events-archived" || p.FirstPosition != 100 || last.event != "events-archived" {
			t.Errorf("%+v, %v", last, err)
		}
	}
}

// TestCommandOnAnArchivedAccount has the response when an account cannot be read without the archive.
func TestCommandOnAnArchivedAccount(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{do: func(command.Request) (command.Result, error) {
		return command.Result{}, fmt.Errorf("%w: account %s", command.ErrArchived, accountID)
	}})
	got := a.send("POST", "/accounts/"+accountID.String()+"/suspend", "")
	if code, _ := got.problem(t); got.status != http.StatusServiceUnavailable || code != "account-archived" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.text)
	}
}
