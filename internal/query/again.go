package query

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// again runs a read, and once more when the database cut it off: reading twice does no harm, and where the URL names
// several hosts, another one answers while the first is away. What fails twice is the caller's.
func again(ctx context.Context, pool *pgxpool.Pool, read func() error) error {
	err := read()
	if !wasCutOff(err) || ctx.Err() != nil {
		return err
	}
	pool.Reset() // the other connections to that host are cut as well
	return read()
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
