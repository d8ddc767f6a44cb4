package httpapi_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"passbook/internal/httpapi"
	"passbook/internal/httpapi/feed"
	"passbook/internal/projector"
)

// overHTTP2 also serves the handler of a harness over TLS and HTTP/2, with a write timeout.
func (a *harness) overHTTP2(writeTimeout time.Duration) *httptest.Server {
	server := httptest.NewUnstartedServer(a.handler)
	server.EnableHTTP2 = true
	server.Config.WriteTimeout = writeTimeout
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return server
}

// open sends a request over HTTP/2 and returns the lines of its response as they arrive.
func (a *harness) open(server *httptest.Server, method, path, mediaType string, body io.Reader) *bufio.Reader {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, server.URL+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Accept", mediaType)
	r.Header.Set("Content-Type", mediaType)
	response, err := server.Client().Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
		a.t.Fatalf("%s: %s %s", path, response.Proto, response.Status)
	}
	return bufio.NewReader(response.Body)
}

// until reads lines up to one with the prefix.
func until(lines *bufio.Reader, prefix string) error {
	for {
		line, err := lines.ReadString('\n')
		if err != nil || strings.HasPrefix(line, prefix) {
			return err
		}
	}
}

// TestQuietOverHTTP2 keeps responses over HTTP/2 idle for longer than a piece may take, and for longer than the server's write
// timeout. Go's HTTP/2 server resets a stream when a deadline passes, even while nothing is being sent.
func TestQuietOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ pieceTimeout, writeTimeout, quiet time.Duration }{
		"short": {100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond},
		"usual": {0, time.Minute, 11 * time.Second}, // the default piece timeout is 10 seconds
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "usual" {
				t.Skip("takes 11 seconds")
			}
			l := &events{data: `{"amount":1}`}
			l.head.Store(1)
			var over atomic.Bool
			s := &service{feed: feed.Config{Log: l}, streams: httpapi.StreamTimes{Heartbeat: time.Hour, PieceTimeout: test.pieceTimeout}}
			s.replay = func(id string) (projector.Replay, error) {
				replay := sampleReplay(id)
				if over.Load() {
					replay.State = "completed"
				}
				return replay, nil
			}
			a := serve(t, s)
			server := a.overHTTP2(test.writeTimeout)
			stream := a.open(server, "GET", "/events?after=0", "text/event-stream", http.NoBody)
			progress := a.open(server, "GET", "/projections/balances/replays/"+replayID.String(), "text/event-stream", http.NoBody)
			body, send := io.Pipe()
			go func() { // the response begins with its first line
				<-time.After(test.quiet)
				_, _ = io.WriteString(send, `{"command":"deposit","account_id":"`+accountID.String()+`","amount":"1"}`+"\n")
				_ = send.Close()
			}()
			if err := until(stream, "data: "); err != nil {
				t.Fatal(err)
			}
			if err := until(progress, "event: progress"); err != nil {
				t.Fatal(err)
			}
			results := a.open(server, "POST", "/commands", "application/x-ndjson", body)
			if err := until(results, "{"); err != nil {
				t.Errorf("POST /commands: %v", err)
			}
			l.head.Store(2)
			a.feed.Wake()
			over.Store(true)
			if err := until(stream, "data: "); err != nil {
				t.Errorf("events: %v", err)
			}
			if err := until(progress, "event: completed"); err != nil {
				t.Errorf("replay: %v", err)
			}
		})
	}
}
