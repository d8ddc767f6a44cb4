package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// IsUnavailable reports whether err means that the database is unreachable, starting, shutting down, read-only, full of
// connections or stuck, that the connection was cut or a time limit ran out, or that a commit did not wait for the
// synchronous standby, or that the log has no partition for the next position: conditions that pass without a change to the request. It is unknown whether the statement took
// effect, unless the error is pgconn.SafeToRetry: then it did not. IsUnavailable is false for nil, for a context that
// the caller cancelled, and for every fault of the request, the data or the code.
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	// No statement was sent yet, so the cause (a changed password or a refused connection, for example) is the database and not
	// the request.
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return unavailableState(pgErr.Code) || isMissingPartition(pgErr)
	}
	for _, target := range []error{
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		syscall.ECONNRESET, syscall.EPIPE, pgconn.ErrConnClosed, puddle.ErrClosedPool,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	_, network := errors.AsType[net.Error](err)
	return network || pgconn.Timeout(err)
}

// IsWrongSchema reports whether err means that the database lacks tables or functions that this binary needs. That is neither a
// fault of the request nor a condition that passes.
func IsWrongSchema(err error) bool {
	if _, ok := errors.AsType[*SchemaError](err); ok {
		return true
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{
		"3F000", // invalid_schema_name
		"42703", // undefined_column
		"42883", // undefined_function
		"42P01", // undefined_table
	}, pgErr.Code)
}

// IsReadOnly reports whether err means that the database is a standby or otherwise read-only.
func IsReadOnly(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == readOnlyTransaction
}

// readOnlyTransaction is the SQLSTATE of a write on a standby, before or after a failover.
const readOnlyTransaction = "25006"

// isMissingPartition reports whether the log has no partition for a row (check_violation of no constraint), because no
// instance could create one in time. Appends succeed again once one does.
func isMissingPartition(err *pgconn.PgError) bool {
	return err.Code == "23514" && err.ConstraintName == "" && err.TableName == "events"
}

// unavailableState decides by SQLSTATE (appendix A of the PostgreSQL manual).
func unavailableState(code string) bool {
	switch code {
	case readOnlyTransaction,
		unconfirmedState, // the synchronous standby may not have it: see unconfirmed.go
		"25P03",          // idle_in_transaction_session_timeout
		"25P04",          // transaction_timeout
		"40001",          // serialization_failure: a standby ended a query to keep up with its primary; no transaction here is serializable
		"55P03",          // lock_not_available: lock_timeout
		"57014":          // query_canceled: statement_timeout
		return true
	}
	// 08 connection exception, 53 insufficient resources, 57P operator intervention: shutdown, crash, starting up,
	// database dropped, idle session.
	for _, class := range []string{"08", "53", "57P"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
