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
	// partingTime is how long clients with a connection open are waited for to be told that it closes. Who is told sends
	// the next request over a new one; who is cut off cannot know whether a request that was under way was taken.
	partingTime = 500 * time.Millisecond
)

// farewell takes leave of the clients of a server.
type farewell struct {
	server   *http.Server
	stopping *atomic.Bool
	open     atomic.Int64 // connections
}

// newFarewell puts itself before the server's handler. It sets stopping when the server is to stop.
func newFarewell(server *http.Server, stopping *atomic.Bool) *farewell {
	f := &farewell{server: server, stopping: stopping}
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
			f.open.Add(1)
		case http.StateHijacked, http.StateClosed:
			f.open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	return f
}

// take stops the server: it goes on for delay, while it is not ready, so that load balancers notice; then has connections
// closed by their clients, ends the streams, takes no more, and finishes what is in flight. What is not finished when ctx
// ends is cut off.
func (f *farewell) take(ctx context.Context, delay time.Duration, endStreams func(), log *slog.Logger) error {
	f.stopping.Store(true)
	sleep(ctx, delay)
	endStreams()
	parting, cancel := context.WithTimeout(ctx, partingTime)
	for f.open.Load() > 0 && parting.Err() == nil {
		sleep(parting, 2*time.Millisecond)
	}
	cancel()
	err := f.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		log.WarnContext(ctx, "requests in flight were cut off: they took longer than PASSBOOK_SHUTDOWN_TIMEOUT", "connections", f.open.Load())
		err = f.server.Close()
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
