package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"passbook/internal/localpg"
)

const (
	// partingTime is how long clients with a connection open are waited for to be told that it closes. Who is told sends
	// the next request over a new one; who is cut off cannot know whether a request that was under way was taken.
	partingTime = 500 * time.Millisecond
	// restartFirst and restartMost bound the pauses between tries to start a private PostgreSQL that has ended by itself.
	restartFirst = 100 * time.Millisecond
	restartMost  = 10 * time.Second
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

// keepUp starts a private PostgreSQL again whenever it has ended by itself, until ctx ends. It finds its clients again,
// since its address stays. An error means that its data is another process's now.
func (d *database) keepUp(ctx context.Context, cfg config) error {
	for d.private != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-d.private.Done():
		}
		cfg.log.ErrorContext(ctx, "the private PostgreSQL has ended; it is started again", "error", d.private.Err())
		_ = d.private.Stop(ctx) // it has ended; this lets go of its directory
		for wait := restartFirst; ; wait = min(2*wait, restartMost) {
			private, err := localpg.Start(ctx, privateOptions(cfg))
			if err == nil {
				d.private = private
				cfg.log.InfoContext(ctx, "the private PostgreSQL runs again")
				break
			}
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // told to stop
			case errors.Is(err, localpg.ErrInUse):
				return fmt.Errorf("the private PostgreSQL has ended: %w", err)
			}
			cfg.log.ErrorContext(ctx, "the private PostgreSQL does not start", "error", err)
			sleep(ctx, wait)
		}
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
