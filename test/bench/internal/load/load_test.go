package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service responds like Passbook, as far as the load generator checks, and checks the requests.
type service struct {
	t        *testing.T
	mu       sync.Mutex
	keys     map[string]bool
	accounts map[string]int
	position atomic.Int64
	failures atomic.Int64 // how many of the next deposits to refuse
	refused  atomic.Int64
}

func newService(t *testing.T) (*service, string) {
	t.Helper()
	s := &service{t: t, keys: make(map[string]bool), accounts: make(map[string]int)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /accounts", s.command)
	mux.HandleFunc("POST /deposits", s.command)
	mux.HandleFunc("POST /withdrawals", s.refuse)
	mux.HandleFunc("GET /accounts/{id}/balance", func(w http.ResponseWriter, r *http.Request) {
		if wanted := r.URL.Query().Get("min_position"); wanted != "" {
			if n, err := strconv.ParseInt(wanted, 10, 64); err != nil || n < 1 || n > s.position.Load() {
				s.t.Errorf("min_position %s, want a position that was answered", wanted)
			}
		}
		_, _ = io.WriteString(w, `{"balance":"1.00"}`)
	})
	mux.HandleFunc("POST /commands", s.stream)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return s, server.Listener.Addr().String()
}

type commandBody struct {
	AccountID string `json:"account_id"`
	Amount    string `json:"amount"`
	Key       string `json:"idempotency_key"`
}

func (s *service) command(w http.ResponseWriter, r *http.Request) {
	var body commandBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		s.t.Errorf("body: %v", err)
	}
	s.note(body.AccountID, r.Header.Get("Idempotency-Key"))
	if s.failures.Add(-1) >= 0 {
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"position":%d,"version":1}`, s.position.Add(1))
}

func (s *service) refuse(w http.ResponseWriter, r *http.Request) {
	var body commandBody
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		s.t.Errorf("body: %v", err)
	}
	s.note(body.AccountID, r.Header.Get("Idempotency-Key"))
	s.refused.Add(1)
	http.Error(w, "not enough", http.StatusUnprocessableEntity)
}

func (s *service) note(account, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[account]++; len(account) != idLen {
		s.t.Errorf("account %q", account)
	}
	if key == "" {
		return
	}
	if s.keys[key] || len(key) != keyLen {
		s.t.Errorf("key %q is used twice, or not %d long", key, keyLen)
	}
	s.keys[key] = true
}

func (s *service) stream(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		s.t.Error(err)
	}
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		var body commandBody
		if err := json.Unmarshal(lines.Bytes(), &body); err != nil {
			s.t.Errorf("item: %v", err)
		}
		s.note(body.AccountID, body.Key)
		fmt.Fprintf(w, `{"status":201,"position":%d}`+"\n", s.position.Add(1))
	}
}

func TestEachAccountOnce(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{Open, Touch} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s, addr := newService(t)
			r, err := Run(t.Context(), Config{Addr: addr, Mode: mode, Conns: 7, First: 1, Accounts: 100})
			if err != nil || r.Requests != 100 || r.Errors != 0 || len(s.accounts) != 100 {
				t.Fatalf("%+v, %v, %d accounts", r, err, len(s.accounts))
			}
			if s.accounts["00000000-0000-4000-8000-000000000064"] != 1 {
				t.Fatal("account 100 was not opened once")
			}
		})
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	const window = time.Second
	tests := map[string]struct {
		config Config
		check  func(t *testing.T, r Result, s *service)
	}{
		"closed": {Config{Mode: Deposit}, func(t *testing.T, r Result, s *service) {
			t.Helper()
			if int64(len(s.keys)) < r.Requests {
				t.Errorf("%d keys for %d requests", len(s.keys), r.Requests)
			}
		}},
		"paced": {Config{Mode: Deposit, Rate: 500}, func(t *testing.T, r Result, _ *service) {
			t.Helper()
			if r.Requests > 500 {
				t.Errorf("%d requests, at most 500 were due", r.Requests)
			}
		}},
		"reads": {Config{Mode: Balance}, func(*testing.T, Result, *service) {}},
		"commands": {Config{Mode: Commands, Lines: 50, Keys: true}, func(t *testing.T, r Result, s *service) {
			t.Helper()
			if int64(len(s.keys)) < r.Requests || r.Requests < r.Latency.Count {
				t.Errorf("%d keys for %d items in %d streams", len(s.keys), r.Requests, r.Latency.Count)
			}
		}},
		"refused": {Config{Mode: Refused}, func(t *testing.T, _ Result, s *service) {
			t.Helper()
			// Each of the four connections begins with a request that is not refused.
			if made, refused := s.position.Load(), s.refused.Load(); refused > made || refused < made-4 {
				t.Errorf("%d refused beside %d that were not, want half", refused, made)
			}
		}},
		"beside": {Config{Mode: Beside, Lines: 50}, func(t *testing.T, r Result, s *service) {
			t.Helper()
			if r.Beside == nil || r.Beside.Count == 0 || r.Beside.Count > int64(len(s.keys)) {
				t.Errorf("%+v beside the streams, with %d keys", r.Beside, len(s.keys))
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, addr := newService(t)
			c := test.config
			c.Addr, c.Conns, c.Duration, c.First, c.Accounts = addr, 4, window, 1, 10
			r, err := Run(t.Context(), c)
			if err != nil || r.Requests == 0 || r.Errors != 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			if l := r.Latency; l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 {
				t.Errorf("latencies %+v", l)
			}
			test.check(t, r, s)
		})
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	_, addr := newService(t)
	// Paced so slowly that the sampler is alone after the first requests.
	r, err := Run(t.Context(), Config{
		Addr: addr, Mode: Visible, Conns: 1, Rate: 1e-3, Duration: time.Second, First: 1, Accounts: 3,
	})
	if err != nil || r.Errors != 0 || r.Visible == nil || r.Visible.Count == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestServersShareTheConnections(t *testing.T) {
	t.Parallel()
	one, a := newService(t)
	two, b := newService(t)
	r, err := Run(t.Context(), Config{Addr: a + "," + b, Mode: Open, Conns: 4, First: 1, Accounts: 100})
	if err != nil || r.Requests != 100 || len(one.accounts) != 50 || len(two.accounts) != 50 {
		t.Fatalf("%+v, %v: %d and %d accounts", r, err, len(one.accounts), len(two.accounts))
	}
}

func TestErrorsAreCounted(t *testing.T) {
	t.Parallel()
	s, addr := newService(t)
	s.failures.Store(3)
	r, err := Run(t.Context(), Config{Addr: addr, Mode: Deposit, Conns: 1, Duration: time.Second, First: 1, Accounts: 1})
	if err != nil || r.Errors != 3 || r.Requests == 0 || !strings.Contains(r.FirstError, "status 503: no") {
		t.Fatalf("%+v, %v", r, err)
	}
	mux := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(mux.Close)
	r, err = Run(t.Context(), Config{
		Addr: mux.Listener.Addr().String(), Mode: Commands, Conns: 2, Duration: time.Second, First: 1, Accounts: 1, Lines: 1000,
	})
	if err != nil || r.Unavailable != 404 || r.Requests != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in     string
		status int
		whole  bool
		bad    bool
	}{
		"nothing":     {in: ""},
		"half header": {in: "HTTP/1.1 201 Created\r\nContent-Le"},
		"half body":   {in: "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nab", status: 201},
		"whole":       {in: "HTTP/1.1 201 Created\r\ncontent-length:2\r\nX: y\r\n\r\nab", status: 201, whole: true},
		"no body":     {in: "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", status: 304, whole: true},
		"too much":    {in: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", bad: true},
		"no length":   {in: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		"bad length":  {in: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", bad: true},
		"not HTTP":    {in: "hello there, who is it\r\n\r\n", bad: true},
		"not a code":  {in: "HTTP/1.1 2x0 OK\r\n\r\n", bad: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a answer
			whole, err := a.parse([]byte(test.in))
			if whole != test.whole || (err != nil) != test.bad {
				t.Fatalf("whole %v, error %v", whole, err)
			}
			if !test.bad && a.status != test.status {
				t.Errorf("status %d", a.status)
			}
		})
	}
}

func TestLatencies(t *testing.T) {
	t.Parallel()
	l := NewLatencies()
	for i := 1; i <= 10_000; i++ {
		l.Add(time.Duration(i) * time.Microsecond)
	}
	near := func(got, want float64) bool { return got >= want && got <= want*1.01 }
	if q := l.Quantiles(); q.Count != 10_000 || !near(q.P50, 5000) || !near(q.P99, 9900) || !near(q.P999, 9990) {
		t.Errorf("%+v", q)
	}
	sum := NewLatencies()
	sum.merge(l)
	sum.merge(l)
	if q := sum.Quantiles(); q.Count != 20_000 || q.P50 != l.Quantiles().P50 {
		t.Errorf("merged twice: %+v", q)
	}
	sum.Add(24 * time.Hour)
	if q := sum.Quantiles(); q.Count != 20_001 {
		t.Errorf("one that is too long is not counted: %+v", q)
	}
	if q := NewLatencies().Quantiles(); q != (Quantiles{}) {
		t.Errorf("of nothing: %+v", q)
	}
}

func TestRequestsAllocateNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	next := depositRequests(newPicker(accountIDs(1, 10), 1), newKey("0123456789abcdef", 1))
	in := []byte("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nab")
	var a answer
	l := NewLatencies()
	if n := testing.AllocsPerRun(100, func() {
		next()
		_, _ = a.parse(in)
		l.Add(time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
