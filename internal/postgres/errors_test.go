package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/postgres"
)

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	state := func(code string) error { return &pgconn.PgError{Code: code} }
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"connection failure", state("08006"), true},
		{"protocol violation", state("08P01"), true},
		{"disk full", state("53100"), true},
		{"too many connections", state("53300"), true},
		{"admin shutdown", state("57P01"), true},
		{"crash shutdown", state("57P02"), true},
		{"cannot connect now", state("57P03"), true},
		{"database dropped", state("57P04"), true},
		{"read-only", state("25006"), true},
		{"idle in transaction", state("25P03"), true},
		{"lock timeout", state("55P03"), true},
		{"statement timeout", state("57014"), true},
		{"conflict with recovery", state("40001"), true},
		{"not confirmed by the standby", state("01000"), true},
		{"wrapped", fmt.Errorf("append: %w", state("57P01")), true},

		{"unique violation", state("23505"), false},
		{"check violation", state("23514"), false},
		{"syntax", state("42601"), false},
		{"undefined table", state("42P01"), false},
		{"privilege", state("42501"), false},
		{"deadlock", state("40P01"), false},
		{"raise exception", state("P0001"), false},
		{"no transaction", state("25P01"), false},
		{"internal", state("XX000"), false},

		{"connect error", &pgconn.ConnectError{}, true},
		{"deadline", fmt.Errorf("query: %w", context.DeadlineExceeded), true},
		{"eof", io.EOF, true},
		{"cut in the middle", io.ErrUnexpectedEOF, true},
		{"reset", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		{"broken pipe", syscall.EPIPE, true},
		{"name not found", &net.DNSError{Err: "no such host"}, true},
		{"closed by us", net.ErrClosed, true},
		{"conn closed", pgconn.ErrConnClosed, true},

		{"the caller gave up", fmt.Errorf("query: %w", context.Canceled), false},
		{"no rows", pgx.ErrNoRows, false},
		{"other", errors.New("connection refused"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := postgres.IsUnavailable(tc.err); got != tc.want {
				t.Errorf("IsUnavailable(%v) = %t", tc.err, got)
			}
		})
	}
}
