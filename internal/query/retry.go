package query

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Timeouts of the first attempt at a read, after which its host counts as dead, and of the second.
const (
	firstTimeout  = 5 * time.Second
	secondTimeout = 10 * time.Second
)

// withRetry runs a read, and retries it once when the connection was lost or the first attempt timed out: a read may be
// repeated, and where the URL names several hosts, another one may be available. The second error is returned unchanged.
func withRetry(ctx context.Context, pool *pgxpool.Pool, read func(context.Context) error) error {
	err := withTimeout(ctx, firstTimeout, read)
	if ctx.Err() != nil || !wasInterrupted(err) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	pool.Reset() // the other connections to that host are no better
	return withTimeout(ctx, secondTimeout, read)
}

func withTimeout(ctx context.Context, d time.Duration, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return read(ctx)
}

// wasInterrupted reports whether a read failed because its connection or server ended, or because a standby cancelled it
// to keep up with its primary.
func wasInterrupted(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case "57P01", "57P02", // admin_shutdown, crash_shutdown
			"40001": // serialization_failure: a conflict with recovery
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return false
	}
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, pgconn.ErrConnClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
