package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"passbook/test/faults/internal/oracle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reports collects what a Load reports.
type reports struct {
	mu  sync.Mutex
	all []oracle.Violation
}

func (r *reports) take(v oracle.Violation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, v)
}

func (r *reports) taken() []oracle.Violation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// crowd starts a client that sends the given number of lines to a new server. Both end with the test.
func crowd(t *testing.T, lines int, handler http.HandlerFunc) (*Load, *reports) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	var r reports
	l := New(Config{Accounts: 4}, 1, nil, r.take)
	t.Cleanup(l.Abandon)
	l.StartCrowd(Crowd{
		Bases: []string{server.URL}, Clients: 1, Lines: lines, AnswerLimit: 300 * time.Millisecond, CommandLimit: 2 * time.Second,
	})
	return l, &r
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !holds() {
		if ctx.Err() != nil {
			t.Fatalf("timed out waiting until %s", what)
		}
		pause(ctx, 5*time.Millisecond)
	}
}

func TestHangsAreReported(t *testing.T) {
	t.Parallel()
	for _, lines := range []int{1, 3} {
		t.Run(fmt.Sprint(lines), func(t *testing.T) {
			t.Parallel()
			_, r := crowd(t, lines, func(_ http.ResponseWriter, request *http.Request) {
				// The server notices that the client has gone only after reading the body.
				_, _ = io.Copy(io.Discard, request.Body)
				<-request.Context().Done()
			})
			eventually(t, "the request and then the command are reported", func() bool {
				all := r.taken()
				return len(all) > 1 && strings.Contains(all[0].Detail, "left a request without a response") &&
					strings.Contains(all[len(all)-1].Detail, "is not settled")
			})
		})
	}
}

// TestCutStreams cuts streams off after some results: those count, and the other items are sent again.
func TestCutStreams(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		seen = make(map[string]int) // how often each key was sent
		cuts int
	)
	l, r := crowd(t, 10, func(w http.ResponseWriter, request *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		lines := bufio.NewScanner(request.Body)
		for n := 0; lines.Scan(); n++ {
			var item struct {
				Key     string `json:"idempotency_key"`
				Account string `json:"account_id"`
			}
			if err := json.Unmarshal(lines.Bytes(), &item); err != nil {
				t.Error(err)
			}
			if seen[item.Key]++; n == 4 && cuts < 3 {
				cuts++
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(w, `{"status":201,"account_id":%q,"position":%d}`+"\n", item.Account, len(seen))
		}
	})
	eventually(t, "many are acknowledged", func() bool { return l.Acknowledged() > 100 })
	l.Abandon()
	mu.Lock()
	defer mu.Unlock()
	twice := 0
	for _, n := range seen {
		if n > 1 {
			twice++
		}
	}
	if cuts != 3 || twice == 0 || twice > 3 || len(r.taken()) > 0 {
		t.Errorf("%d cuts, %d items sent again, want at most one a cut; %v", cuts, twice, r.taken())
	}
}
