package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// closeNotice is how long the server keeps open connections, so that its next response on each can announce the close. The
	// client then sends its next request over a new connection. One that is cut off cannot know whether a request in flight
	// was applied.
	closeNotice = 500 * time.Millisecond
)

// gracefulShutdown stops a server without failing its clients' requests.
type gracefulShutdown struct {
	server   *http.Server
	stopping *atomic.Bool
	open     atomic.Int64 // connections
}

// newGracefulShutdown wraps the server's handler. It sets stopping once the server is to stop.
func newGracefulShutdown(server *http.Server, stopping *atomic.Bool) *gracefulShutdown {
	g := &gracefulShutdown{server: server, stopping: stopping}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			g.open.Add(1)
		case http.StateHijacked, http.StateClosed:
			g.open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	return g
}

// run shuts the server down gracefully. For delay it keeps serving but is not ready, so that load balancers notice. Then
// it ends the streams, tells clients to close their connections, accepts no more, and finishes the requests in flight.
// Those that are not finished when ctx ends are cut off.
func (g *gracefulShutdown) run(ctx context.Context, delay time.Duration, endStreams func(), log *slog.Logger) error {
	g.stopping.Store(true)
	sleep(ctx, delay)
	endStreams()
	notice, cancel := context.WithTimeout(ctx, closeNotice)
	for g.open.Load() > 0 && notice.Err() == nil {
		sleep(notice, 2*time.Millisecond)
	}
	cancel()
	err := g.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		log.WarnContext(ctx, "requests in flight were cut off: they took longer than PASSBOOK_SHUTDOWN_TIMEOUT", "connections", g.open.Load())
		err = g.server.Close()
	}
	if err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}

// sleep waits, or returns when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
