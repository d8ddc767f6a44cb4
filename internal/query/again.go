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

// Bounds of one try of a read: of the first, after which the host it went to is taken for gone, and of the second.
const (
	firstTry  = 5 * time.Second
	secondTry = 10 * time.Second
)

// again runs a read, and once more when the database cut it off or did not answer: reading twice does no harm, and where
// the URL names several hosts, another one answers while the first is away. What fails twice is the caller's.
func again(ctx context.Context, pool *pgxpool.Pool, read func(context.Context) error) error {
	err := within(ctx, firstTry, read)
	if ctx.Err() != nil || !wasCutOff(err) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	pool.Reset() // the other connections to that host are no better
	return within(ctx, secondTry, read)
}

func within(ctx context.Context, d time.Duration, read func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return read(ctx)
}

// wasCutOff tells that a read was under way when its connection ended or its server did, or when a standby had to end it
// to keep up with its primary.
func wasCutOff(err error) bool {
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
