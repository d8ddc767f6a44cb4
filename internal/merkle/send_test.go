package merkle_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"passbook/internal/merkle"
)

// receiver is an HTTP server that takes checkpoints, or fails as it is told.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	status   int
	attempts int
	got      []string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.attempts++
		if user, password, _ := request.BasicAuth(); request.URL.Path != "/here" || request.Method != http.MethodPost ||
			request.Header.Get("Content-Type") != "text/plain; charset=utf-8" || user != "passbook" || password != "secret" {
			t.Errorf("%s %s with %v", request.Method, request.URL.Path, request.Header)
		}
		if r.status == http.StatusNoContent {
			r.got = append(r.got, string(body))
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) respond(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.attempts = status, 0
}

func (r *receiver) state() (attempts int, got []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts, r.got
}

// sender runs a sender to the receiver until stop.
func (l *testLog) sender(r *receiver, active bool, log io.Writer) (s *merkle.Sender, stop func()) {
	s = &merkle.Sender{
		Pool: l.pool, To: "url", Send: merkle.PostTo(strings.Replace(r.URL, "://", "://passbook:secret@", 1) + "/here"),
		Active: func() bool { return active }, Every: 10 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	l.Cleanup(stop)
	return s, stop
}

func await(t testing.TB, what string, ready func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ready(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: ", what)
		}
	}
}

// TestSend expects the latest checkpoint to arrive, also after failures and redirects, which are not followed, and after the instance
// that signed it has ended.
func TestSend(t *testing.T) {
	t.Parallel()
	l, r := newLog(t, 5), newReceiver(t)
	arrives := func(size int64) {
		t.Helper()
		await(t, fmt.Sprintf("the checkpoint of %d events arrives", size), func() bool {
			_, got := r.state()
			if len(got) == 0 {
				return false
			}
			c, err := parseKeys(t, l.public).Open([]byte(got[len(got)-1]))
			return err == nil && c.Size == size
		})
	}
	var log strings.Builder
	s, stop := l.sender(r, true, &log)
	l.sign()
	arrives(5)
	for _, status := range []int{http.StatusInternalServerError, http.StatusTemporaryRedirect, http.StatusFound} {
		r.respond(status)
		l.append(2)
		l.sign() // signing goes on
		await(t, "it is tried twice", func() bool { attempts, _ := r.state(); return attempts > 1 })
		if got := s.Status(); !strings.Contains(got.Error, fmt.Sprint(status)) {
			t.Errorf("status: %+v", got)
		}
		r.respond(http.StatusNoContent)
		_, c := l.signed()
		arrives(c.Size)
		await(t, "the status", func() bool { return s.Status() == merkle.SendStatus{Size: c.Size} })
	}
	stop()
	if got := log.String(); strings.Count(got, "cannot be sent") != 3 || strings.Count(got, "sent again") != 3 || strings.Contains(got, "secret") {
		t.Errorf("the log is\n%s", got)
	}
	l.append(1)
	l.sign() // and ends, before it was sent
	_, _ = l.sender(r, false, io.Discard)
	arrives(12)
	if _, got := r.state(); len(got) != 5 {
		t.Errorf("%d checkpoints arrived, want each of the 5 once", len(got))
	}
}
