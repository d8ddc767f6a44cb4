package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/httpapi"
	"passbook/internal/httpapi/apitest"
	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/subject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	accountID = uuid.MustParse("0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e3f")
	eventID   = uuid.MustParse("0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e40")
	replayID  = uuid.MustParse("0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41")
	moment    = time.Date(2026, 1, 2, 15, 4, 5, 120_000_000, time.FixedZone("", 3600))
)

// errUnavailable is the error of an unavailable database.
var errUnavailable = errors.New("connection to 10.0.0.1 refused")

// service replaces the layers below, to cause what is hard to cause with them. Where a function is nil, it returns a plain
// success.
type service struct {
	primary  string // URL; set on a follower
	do       func(command.Request) (command.Result, error)
	account  func(uuid.UUID, query.Wait) (query.Account, int64, error)
	accounts func(query.ListFilter, query.Wait) (query.Page, int64, error)
	past     func(query.AsOf, query.Wait) (query.BalanceAt, int64, error)
	page     func(query.StatementFilter, query.Wait) (query.Statement, int64, error)
	totals   func(query.Wait) ([]query.Total, int64, error)
	period   func(from, to *time.Time, w query.Wait) (query.Period, int64, error)
	moved    func(p *query.Period, after int64, limit int) ([]query.Transaction, error)
	replay   func(id string) (projector.Replay, error)
	status   func(id string) (projector.Status, error)
	failure  func(id string) (projector.Failure, error)
	hooks    subscriptions
	proofErr error
	audit    audit
	recorder httpapi.Recorder
	// The last request, if set.
	holdsAsked *query.HoldFilter
	// expiringAsked gets the filter of GET /holds.
	expiringAsked *query.ExpiringFilter
	searched      *query.SearchFilter
	stopping      chan struct{} // ends streams of a replay's progress
	checks        []httpapi.Check
	feed          feed.Config // Log and Logger are set when it is empty
	streams       httpapi.StreamTimes
	base          string
	starting      atomic.Bool

	auth       httpapi.Authenticator
	rateLimit  float64
	unsealed   bool // personal text is not sealed
	cors       []string
	maxStreams int
	share      int // MaxStreamsPerCaller
	bulk       httpapi.BulkLimits

	mu       sync.Mutex
	requests []command.Request // the last one
}

func (s *service) Do(_ context.Context, r command.Request) (command.Result, error) {
	s.mu.Lock()
	s.requests = append(s.requests[:0], r)
	s.mu.Unlock()
	if s.do != nil {
		return s.do(r)
	}
	return recorded(r, 7, 3), nil
}

// subjects returns nil if personal text is not sealed.
func (s *service) subjects() httpapi.Subjects {
	if s.unsealed {
		return nil
	}
	return s
}

// Erase knows one subject.
func (s *service) Erase(_ context.Context, id uuid.UUID, m command.Metadata) (subject.Erasure, error) {
	if id != replayID {
		return subject.Erasure{}, fmt.Errorf("wrapped: %w", subject.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests[:0], command.Request{Command: account.EraseSubject{SubjectID: id}, Metadata: m})
	return subject.Erasure{SubjectID: id, Accounts: []uuid.UUID{id}, Position: 7, PlainText: true}, nil
}

// last returns the last request that reached the write side; ok is false when none did.
func (s *service) last() (r command.Request, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == 0 {
		return r, false
	}
	return s.requests[len(s.requests)-1], true
}

// forget drops the last request.
func (s *service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = s.requests[:0]
}

var eur, _ = money.LookupCurrency("EUR")

// holdID is the hold in the commands of the tests.
var holdID = uuid.MustParse("0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e42")

// recorded returns the result of a command that was appended at a position.
func recorded(r command.Request, position, version int64) command.Result {
	amount := money.New(1250, eur)
	move := account.Reversal{ReversalID: replayID, ReversedPosition: 5, Amount: amount}
	events := map[string][]account.Event{
		"open": {account.AccountCreated{Currency: eur}}, "deposit": {account.MoneyDeposited{Amount: amount}},
		"withdraw": {account.MoneyWithdrawn{Amount: amount}}, "transfer": {account.TransferSent{Amount: amount}},
		"suspend": {account.AccountSuspended{}}, "reactivate": {account.AccountReactivated{}}, "close": {account.AccountClosed{}},
		"change": {account.OwnerChanged{Owner: "Ada"}, account.OverdraftLimitChanged{OverdraftLimit: 100, Currency: eur}},
		"hold":   {account.HoldPlaced{HoldID: holdID, Amount: amount}}, "release": {account.HoldReleased{HoldID: holdID, Amount: amount}},
		"capture": {account.HoldCaptured{HoldID: holdID, Amount: amount, Released: 50}, account.MoneyWithdrawn{Amount: amount}},
		"reverse": {account.DebitReversed{Reversal: move}},
	}[r.Command.Name()]
	other := map[string]account.Event{}
	switch c := r.Command.(type) {
	case account.Open:
		if c.InitialDeposit != nil {
			events = append(events, account.MoneyDeposited{Amount: amount})
		}
	case account.CaptureHold:
		if c.To != uuid.Nil {
			events[1] = account.TransferSent{TransferID: replayID, To: c.To, Amount: amount}
			other["capture"] = account.TransferReceived{TransferID: replayID, From: r.AccountID, Amount: amount}
		}
	case account.Reverse:
		if c.Force {
			move.TransferID, move.Counterparty, move.Forced = holdID, eventID, true
			events[0], other["reverse"] = account.CreditReversed{Reversal: move}, account.DebitReversed{Reversal: move}
		}
		r.AccountID = accountID
	}
	result := command.Result{After: account.State{Status: account.Active, Currency: eur, Balance: 2000, OverdraftLimit: 500, Held: 1250}}
	for n, e := range events {
		result.Events = append(result.Events, command.Recorded{
			AccountID: r.AccountID, EventID: eventID, Position: position + int64(n), Version: version + int64(n), RecordedAt: moment, Event: e,
		})
	}
	if e := other[r.Command.Name()]; e != nil {
		result.Events = append(result.Events, command.Recorded{
			AccountID: eventID, EventID: replayID, Position: position + int64(len(events)), Version: 90, RecordedAt: moment, Event: e,
		})
	}
	if r.DryRun {
		for n := range result.Events {
			result.Events[n].Position, result.Events[n].RecordedAt = 0, time.Time{}
		}
	}
	return result
}

func (s *service) Account(_ context.Context, id uuid.UUID, w query.Wait) (query.Account, int64, error) {
	if s.account != nil {
		return s.account(id, w)
	}
	return sampleAccount(id), 42, nil
}

func (s *service) DoEach(ctx context.Context, requests []command.Request) []command.Outcome {
	outcomes := make([]command.Outcome, len(requests))
	for i := range requests {
		outcomes[i].Result, outcomes[i].Err = s.Do(ctx, requests[i])
	}
	return outcomes
}

func (s *service) DoAll(ctx context.Context, requests []command.Request) ([]command.Result, error) {
	results := make([]command.Result, len(requests))
	for i := range requests {
		var err error
		if results[i], err = s.Do(ctx, requests[i]); err != nil {
			return nil, &command.ItemError{Index: i, Err: err}
		}
	}
	return results, nil
}

func sampleAccount(id uuid.UUID) query.Account {
	return query.Account{
		ID: id, Owner: "Ada", Currency: eur, Balance: 12000, Overdraft: 5000, Deposited: "120.00", Withdrawn: "0.00",
		Status: "active", Version: 5, Position: 41, OpenedAt: moment, UpdatedAt: moment,
	}
}

func (s *service) Accounts(_ context.Context, f query.ListFilter, w query.Wait) (query.Page, int64, error) {
	if s.accounts != nil {
		return s.accounts(f, w)
	}
	closed := sampleAccount(accountID)
	closed.Status, closed.ClosedAt = "closed", moment
	return query.Page{Accounts: []query.Account{sampleAccount(eventID), closed}, Next: "abc"}, 42, nil
}

func (s *service) Projections(ctx context.Context) ([]projector.Status, error) {
	status, err := s.Projection(ctx, "balances")
	return []projector.Status{status}, err
}

func (s *service) Projection(_ context.Context, id string) (projector.Status, error) {
	if s.status != nil {
		return s.status(id)
	}
	r := sampleReplay(id)
	return projector.Status{
		ID: id, Version: 1, State: "running", Position: 42, Head: 43, First: 1, Lag: 1, LagSeconds: .01, Rate: 100, Generation: 1,
		Owner: "here", UpdatedAt: moment, Replay: &r,
	}, nil
}

func (s *service) Pause(ctx context.Context, id string) (projector.Status, error) {
	return s.Projection(ctx, id)
}

func (s *service) Resume(ctx context.Context, id string) (projector.Status, error) {
	return s.Projection(ctx, id)
}

func sampleReplay(id string) projector.Replay {
	return projector.Replay{
		ID: replayID, Projection: id, Kind: "replay", State: "running", Processed: 10, Total: 42, Rate: 1000, Generation: 2, StartedAt: moment,
	}
}

func (s *service) StartReplay(_ context.Context, id string) (projector.Replay, error) {
	if s.replay != nil {
		return s.replay(id)
	}
	return sampleReplay(id), nil
}

func (s *service) Replay(ctx context.Context, id string, _ uuid.UUID) (projector.Replay, error) {
	return s.StartReplay(ctx, id)
}

func (s *service) CancelReplay(ctx context.Context, id string, _ uuid.UUID) (projector.Replay, error) {
	return s.StartReplay(ctx, id)
}

// harness is a server on a real port, with a client that checks each response against the specification.
type harness struct {
	t       *testing.T
	handler http.Handler
	url     string
	client  *http.Client
	log     *syncBuffer
	feed    *feed.Feed
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func serve(t *testing.T, s *service) *harness {
	t.Helper()
	a := &harness{t: t, client: apitest.Client(t), log: new(syncBuffer), feed: serveFeed(t, s)}
	if s.streams == (httpapi.StreamTimes{}) {
		s.streams = httpapi.StreamTimes{Heartbeat: 20 * time.Millisecond, PieceTimeout: 2 * time.Second}
	}
	h, err := httpapi.New(httpapi.Config{
		Follower: s.primary != "", PrimaryURL: s.primary, Commands: s, Queries: s, Statements: s, Holds: s, Movements: s, Projections: s, Control: s, Replays: s, Generations: s, Failures: s, Statistics: s, Webhooks: s, WebhookControl: s, WebhookRules: s, Proofs: s, Recorder: s.recorder, AccessRecords: &s.audit, Subjects: s.subjects(), Stopping: s.stopping, Feed: a.feed, Streams: s.streams,
		Authenticator: s.auth, Authentication: "keys", Hosts: []string{"Bank.example"}, BasePath: s.base, CORSOrigins: s.cors, RateLimit: s.rateLimit, MaxStreams: s.maxStreams, MaxStreamsPerCaller: s.share, Bulk: s.bulk,
		Ready:       func(context.Context) []httpapi.Check { return s.checks },
		Started:     func() bool { return !s.starting.Load() },
		Unavailable: func(err error) bool { return errors.Is(err, errUnavailable) },
		Logger:      slog.New(slog.NewJSONHandler(a.log, nil)), Registry: prometheus.NewRegistry(), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	a.handler = h
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// answer is a response.
type answer struct {
	status int
	header http.Header
	text   string
}

// json parses the response as an object.
func (a *answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.text), &m); err != nil {
		t.Fatalf("%s: %v", a.text, err)
	}
	return m
}

// problem parses the response as a problem: its code, and its errors by location.
func (a *answer) problem(t *testing.T) (code string, errs map[string]string) {
	t.Helper()
	var p genapi.Problem
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("%s: %v", a.text, err)
	}
	errs = make(map[string]string)
	for _, e := range p.Errors {
		errs[e.Pointer+e.Parameter+e.Header] = e.Detail
	}
	return p.Code, errs
}

// send sends a request. A body has Content-Type application/json unless the headers (name, value, …) say otherwise.
func (a *harness) send(method, path, body string, headers ...string) *answer {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	if values := r.Header["Content-Type"]; len(values) > 1 {
		r.Header["Content-Type"] = values[1:]
	}
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		a.t.Fatal(err)
	}
	return &answer{response.StatusCode, response.Header, string(text)}
}

func (s *service) Period(_ context.Context, id uuid.UUID, from, to *time.Time, w query.Wait) (query.Period, int64, error) {
	if s.period == nil {
		s.period = bookkeeper(3, 0).period
	}
	p, applied, err := s.period(from, to, w)
	p.AccountID = id
	return p, applied, err
}

func (s *service) PeriodMovements(_ context.Context, p *query.Period, after int64, limit int) ([]query.Transaction, error) {
	if s.moved == nil {
		s.moved = bookkeeper(3, 0).moved
	}
	return s.moved(p, after, limit)
}
