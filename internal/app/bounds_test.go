package app

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestConnectionsAreBounded checks the limit of a request's header, and the time limits of every part of a request.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	server := newHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		slog.New(slog.DiscardHandler))
	const longestWait = 30 * time.Second // of a query that waits for a position
	if server.ReadHeaderTimeout <= 0 || server.IdleTimeout <= 0 || server.ReadTimeout <= longestWait || server.WriteTimeout <= longestWait {
		t.Errorf("the time limits are %v, %v, %v and %v", server.ReadHeaderTimeout, server.ReadTimeout, server.WriteTimeout, server.IdleTimeout)
	}
	if h := server.HTTP2; h == nil || h.MaxReceiveBufferPerConnection != receiveBuffer || h.MaxReceiveBufferPerStream != receiveBuffer {
		t.Errorf("the limits of HTTP/2 are %+v", h)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup // connections; a refused one lingers
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Done()
		}
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served; open.Wait() })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for size, want := range map[int]int{16 << 10: http.StatusNoContent, 128 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.Repeat("a", size))
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a header of %d bytes: %d", size, response.StatusCode)
		}
	}
}
