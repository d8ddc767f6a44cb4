package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/client"
)

const (
	someID  = "0190a0d2-7c4e-7b1c-9a53-2f5b0c1d2e41"
	receipt = `{"account_id":"` + someID + `","event_id":"` + someID + `","position":7,"version":2,"type":"MoneyDeposited","recorded_at":"2026-01-02T15:04:05.000000Z"}`
)

// step is one response of a scripted server; one without a status cuts the connection.
type step struct {
	status     int
	body       string
	retryAfter string
}

// scripted is a server that responds with each step in turn, repeats the last one, and records the requests.
type scripted struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*http.Request
	sent  []string
}

func script(t *testing.T, steps ...step) *scripted {
	t.Helper()
	s := &scripted{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.asked, s.sent = append(s.asked, r), append(s.sent, string(body))
		now := steps[min(len(s.asked), len(steps))-1]
		s.mu.Unlock()
		if now.status == 0 {
			panic(http.ErrAbortHandler)
		}
		if now.retryAfter != "" {
			w.Header().Set("Retry-After", now.retryAfter)
		}
		w.Header().Set("Passbook-Position", "9")
		w.WriteHeader(now.status)
		_, _ = io.WriteString(w, now.body)
	}))
	t.Cleanup(s.Close)
	return s
}

// got returns the requests so far, with their bodies.
func (s *scripted) got() ([]*http.Request, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), slices.Clone(s.sent)
}

func (s *scripted) client(t *testing.T, opts ...client.Option) *client.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(s.URL+"/", append([]client.Option{
		client.WithRetryFor(time.Minute), client.WithHTTPClient(&http.Client{Transport: transport}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problem(status int, code string) step {
	return step{status: status, body: fmt.Sprintf(`{"status":%d,"code":"%s","detail":"so it is","request_id":"r"}`, status, code)}
}

// TestRetries sends a command to servers that fail at first: it is retried with the same key and body, or not at all.
func TestRetries(t *testing.T) {
	t.Parallel()
	good := step{status: 201, body: receipt}
	for name, test := range map[string]struct {
		steps []step
		tries int
		code  string // of the problem; "" is a success
	}{
		"at once":          {[]step{good}, 1, ""},
		"cut connections":  {[]step{{}, {}, good}, 3, ""},
		"half a response":  {[]step{{status: 502}, good}, 2, ""},
		"unavailable":      {[]step{problem(503, "unavailable"), problem(503, "overloaded"), good}, 3, ""},
		"too many":         {[]step{{status: 429}, good}, 2, ""},
		"Retry-After":      {[]step{{status: 503, retryAfter: "1"}, good}, 2, ""},
		"long Retry-After": {[]step{{status: 503, body: problem(503, "unavailable").body, retryAfter: "3600"}}, 1, "unavailable"},
		"its own attempt":  {[]step{problem(409, "idempotency-key-in-flight"), good}, 2, ""},
		"refused":          {[]step{problem(422, "insufficient-funds"), good}, 1, "insufficient-funds"},
		"a server's bug":   {[]step{problem(500, "internal-error"), good}, 1, "internal-error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := script(t, test.steps...)
			c := s.client(t)
			got, err := c.Deposit(t.Context(), client.MoneyMovement{AccountID: uuid.MustParse(someID), Amount: "1.00"})
			var p *client.Problem
			switch {
			case test.code == "" && (err != nil || got.Position != 7 || c.Written() != 7):
				t.Errorf("%+v, %v, %d", got, err, c.Written())
			case test.code != "" && (!errors.As(err, &p) || p.Code != test.code):
				t.Errorf("%v", err)
			}
			asked, sent := s.got()
			if len(asked) != test.tries {
				t.Fatalf("it was sent %d times, not %d", len(asked), test.tries)
			}
			for i, r := range asked {
				if key := r.Header.Get("Idempotency-Key"); key == "" || key != asked[0].Header.Get("Idempotency-Key") {
					t.Errorf("try %d has the key %q", i, key)
				}
				if want := `{"account_id":"` + someID + `","amount":"1.00"}`; sent[i] != want {
					t.Errorf("try %d is %s", i, sent[i])
				}
			}
		})
	}
}

// TestNotRepeatable checks that a request which must not be repeated is sent once, even if it fails.
func TestNotRepeatable(t *testing.T) {
	t.Parallel()
	for _, bad := range []step{{}, problem(503, "unavailable")} {
		s := script(t, bad)
		c := s.client(t)
		_, rollback := c.Rollback(t.Context(), "balances")
		_, replay := c.StartReplay(t.Context(), "balances")
		if asked, _ := s.got(); rollback == nil || replay == nil || len(asked) != 2 {
			t.Errorf("%v, %v, sent %d times", rollback, replay, len(asked))
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	s := script(t, problem(503, "unavailable"))
	for _, retryFor := range []time.Duration{0, 300 * time.Millisecond} {
		_, err := s.client(t, client.WithRetryFor(retryFor)).Projections(t.Context())
		var p *client.Problem
		if !errors.As(err, &p) || p.Status != 503 || err.Error() != "passbook: 503 unavailable: so it is" {
			t.Errorf("%v: %v", retryFor, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.client(t).Projections(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestReadYourWrites checks the position that queries wait for after a write.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	const balance = `{"account_id":"` + someID + `","updated_at":"2026-01-02T15:04:05.000000Z"}`
	s := script(t, step{status: 201, body: receipt}, step{status: 200, body: balance}, step{status: 200, body: balance},
		step{status: 200, body: `{"accounts":[],"next_cursor":null}`})
	c, id := s.client(t, client.WithReadYourWrites(), client.WithAPIKey("secret")), uuid.MustParse(someID)
	if _, err := c.Deposit(t.Context(), client.MoneyMovement{AccountID: id, Amount: "1"}, client.Key("mine"), client.IfVersion(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Balance(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	var applied int64
	at := time.Date(2026, 1, 2, 16, 4, 5, 120_000, time.FixedZone("", 3600))
	if _, err := c.BalanceAt(t.Context(), id, at, client.AtLeast(8), client.WaitAtMost(9*time.Second), client.Applied(&applied)); err != nil || applied != 9 {
		t.Fatal(err, applied)
	}
	for _, err := range c.Accounts(t.Context(), client.ListAccountsParams{Owner: "A&B +"}) {
		t.Fatal(err)
	}
	asked, _ := s.got()
	for i, want := range []string{
		"/deposits",
		"/accounts/" + someID + "/balance?min_position=7",
		"/accounts/" + someID + "/balance?at=2026-01-02T15%3A04%3A05.00012Z&min_position=8",
		"/accounts?owner=A%26B+%2B&min_position=7",
	} {
		if got := asked[i].URL.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got := asked[i].Header.Get("Authorization"); got != "Bearer secret" {
			t.Errorf("Authorization: %s", got)
		}
	}
	if h := asked[0].Header; h.Get("Idempotency-Key") != "mine" || h.Get("If-Match") != `"3"` {
		t.Errorf("%v", h)
	}
	if got := asked[2].Header.Get("Prefer"); got != "wait=9" {
		t.Errorf("Prefer: %s", got)
	}
}

// TestBatchOfUnequalLength expects an error if a response has fewer results than commands.
func TestBatchOfUnequalLength(t *testing.T) {
	t.Parallel()
	s := script(t, step{status: 200, body: `{"status":201,"position":3}` + "\n"})
	deposit := client.Command{Command: client.CommandDeposit, AccountID: uuid.MustParse(someID), Amount: "1"}
	_, err := s.client(t).RunAtomic(t.Context(), []client.Command{deposit, deposit})
	asked, sent := s.got()
	if err == nil || asked[0].URL.RawQuery != "atomic=true" {
		t.Errorf("%v %s", err, asked[0].URL)
	}
	if lines := strings.Split(strings.TrimSpace(sent[0]), "\n"); len(lines) != 2 || strings.Count(sent[0], "idempotency_key") != 2 || lines[0] == lines[1] {
		t.Errorf("%s", sent[0])
	}
}

// TestUnavailableItemsAreRetried returns 503 for some commands of a request: only they are retried, with the same keys,
// which the caller gets too.
func TestUnavailableItemsAreRetried(t *testing.T) {
	t.Parallel()
	const applied, unavailable = `{"status":201,"position":%d}` + "\n", `{"status":503,"code":"unavailable"}` + "\n"
	s := script(t,
		step{status: 200, body: fmt.Sprintf(applied, 3) + unavailable + `{"status":422,"code":"insufficient-funds"}` + "\n" + unavailable},
		step{status: 200, body: fmt.Sprintf(applied, 4) + unavailable},
		step{status: 200, body: fmt.Sprintf(applied, 5)})
	commands := make([]client.Command, 4)
	for i := range commands {
		commands[i] = client.Command{Command: client.CommandDeposit, AccountID: uuid.MustParse(someID), Amount: strconv.Itoa(i)}
	}
	commands[1].IdempotencyKey = "mine"
	results, err := s.client(t).RunAll(t.Context(), commands)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{201, 201, 422, 201} {
		if results[i].Status != want {
			t.Errorf("command %d has the result %d, want %d", i, results[i].Status, want)
		}
	}
	_, sent := s.got()
	if len(sent) != 3 {
		t.Fatalf("%d requests, want 3", len(sent))
	}
	for n, want := range [][]int{{0, 1, 2, 3}, {1, 3}, {3}} {
		lines := strings.Split(strings.TrimSpace(sent[n]), "\n")
		if len(lines) != len(want) {
			t.Fatalf("request %d has %d commands, want %d", n, len(lines), len(want))
		}
		for k, i := range want {
			var one client.Command
			if err := json.Unmarshal([]byte(lines[k]), &one); err != nil || !reflect.DeepEqual(one, commands[i]) || one.IdempotencyKey == "" {
				t.Errorf("request %d: %s, want %+v (%v)", n, lines[k], commands[i], err)
			}
		}
	}
}

// TestAtomicGroupIsRetriedWhole returns 503 for one command, so that none was applied.
func TestAtomicGroupIsRetriedWhole(t *testing.T) {
	t.Parallel()
	s := script(t,
		step{status: 200, body: `{"status":424,"code":"not-applied"}` + "\n" + `{"status":503,"code":"unavailable"}` + "\n"},
		step{status: 200, body: `{"status":201,"position":3}` + "\n" + `{"status":201,"position":4}` + "\n"})
	deposit := client.Command{Command: client.CommandDeposit, AccountID: uuid.MustParse(someID), Amount: "1"}
	results, err := s.client(t).RunAtomic(t.Context(), []client.Command{deposit, deposit})
	_, sent := s.got()
	if err != nil || len(sent) != 2 || sent[0] != sent[1] || results[0].Receipt == nil || results[1].Receipt == nil {
		t.Errorf("%+v, %v; %q", results, err, sent)
	}
}

// TestKeysSurviveAnOutage gets no response at all: the caller still has the keys to run the commands again.
func TestKeysSurviveAnOutage(t *testing.T) {
	t.Parallel()
	s := script(t, step{status: 400, body: `{"status":400,"code":"invalid-json"}`})
	commands := make([]client.Command, 2)
	_, err := s.client(t).RunAll(t.Context(), commands)
	if err == nil || commands[0].IdempotencyKey == "" || commands[0].IdempotencyKey == commands[1].IdempotencyKey {
		t.Errorf("%v; %+v", err, commands)
	}
}

// TestFollowResumes cuts a stream repeatedly: every event arrives once, in order.
func TestFollowResumes(t *testing.T) {
	t.Parallel()
	const head, each = 10, 3
	var mu sync.Mutex
	var begun []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get("Last-Event-ID")
		mu.Lock()
		begun = append(begun, last)
		busy := len(begun) == 2
		mu.Unlock()
		if busy {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var after int
		_, _ = fmt.Sscan(last, &after)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "retry: 1000\nid: %d\n\n: heartbeat\n\n", after)
		for n := after + 1; n <= min(after+each, head); n++ {
			fmt.Fprintf(w, "id: %d\nevent: MoneyDeposited\ndata: {\"position\":\"%d\",\ndata: \"version\":\"1\",\"id\":\"%s\",\"subject\":\"%s\",\"time\":\"2026-01-02T15:04:05.000000Z\"}\n\n", n, n, someID, someID)
		}
		if after+each <= head {
			fmt.Fprint(w, "id: 99\ndata: {\"position\"") // cut in the middle
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := client.New(s.URL, client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	want := client.Number(1)
	for event, err := range c.Follow(t.Context(), 0, client.EventFilter{}) {
		if err != nil || event.Position != want {
			t.Fatalf("%d, %v, want %d", event.Position, err, want)
		}
		if want++; want > head {
			break
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(begun, " "); got != "0 3 3 6 9" {
		t.Errorf("streams began after %s", got)
	}
}

// TestFollowLogThatLostItsTail expects the stream's last event to be returned as an error.
func TestFollowLogThatLostItsTail(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "id: 7\nevent: MoneyDeposited\ndata: {\"position\":\"7\",\"version\":\"1\",\"id\":\"%s\",\"subject\":\"%s\"}\n\n", someID, someID)
		fmt.Fprint(w, "event: log-went-back\nid:\ndata: {\"code\":\"log-went-back\",\"detail\":\"It is gone.\"}\n\n")
	}))
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := client.New(s.URL, client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	var positions []client.Number
	var last error
	for event, err := range c.Follow(t.Context(), 6, client.EventFilter{}) {
		if last = err; err == nil {
			positions = append(positions, event.Position)
		}
	}
	var p *client.Problem
	if len(positions) != 1 || positions[0] != 7 || !errors.As(last, &p) || p.Code != "log-went-back" || p.Status != 409 {
		t.Errorf("%v, %v", positions, last)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	s := script(t, problem(400, "invalid-parameter"))
	n := 0
	for _, err := range s.client(t).Follow(t.Context(), client.FromNow, client.EventFilter{Type: "Nothing"}) {
		var p *client.Problem
		if n++; !errors.As(err, &p) || n > 1 {
			t.Errorf("%v", err)
		}
	}
	if asked, _ := s.got(); n != 1 || asked[0].Header.Get("Last-Event-ID") != "" {
		t.Errorf("%d, %v", n, asked[0].Header)
	}
}

// TestFollowReplay follows by a stream that breaks, and by polling if there is none.
func TestFollowReplay(t *testing.T) {
	t.Parallel()
	const state = `{"id":"` + someID + `","projection":"balances","state":"%s","processed":%d,"total":9,"started_at":"2026-01-02T15:04:05.000000Z","finished_at":null}`
	for _, streams := range []bool{true, false} {
		var asked atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, name := asked.Add(1), "running"
			if n == 3 {
				name = "completed"
			}
			switch {
			case !streams && strings.Contains(r.Header.Get("Accept"), "event-stream"):
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, `{"status":503,"code":"too-many-streams"}`)
			case streams:
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, "event: progress\ndata: "+state+"\n\n", name, n)
			default:
				fmt.Fprintf(w, state, name, n)
			}
		}))
		transport := &http.Transport{}
		c, err := client.New(s.URL, client.WithHTTPClient(&http.Client{Transport: transport}), client.WithRetryFor(0))
		if err != nil {
			t.Fatal(err)
		}
		var last client.Replay
		for r, err := range c.FollowReplay(t.Context(), "balances", uuid.MustParse(someID)) {
			if err != nil {
				t.Fatal(err)
			}
			last = r
		}
		if last.State != client.ReplayStateCompleted || last.Processed != 3 || asked.Load() != 3 {
			t.Errorf("streams %v: %+v after %d", streams, last, asked.Load())
		}
		transport.CloseIdleConnections()
		s.Close()
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"", "localhost", "ftp://x", "http://", "://"} {
		if _, err := client.New(server); err == nil {
			t.Errorf("%q is accepted as a server", server)
		}
	}
}
