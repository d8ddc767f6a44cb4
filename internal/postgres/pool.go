// Package postgres opens connection pools, brings the schema up to date, and distinguishes the errors of an unavailable
// database from all others.
package postgres

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	defaultApplicationName = "passbook"
	defaultConnectTimeout  = 5 * time.Second
)

// Option configures a pool. Parameters of the URL (application_name, pool_max_conns, connect_timeout, statement_timeout
// and so on) override every option.
type Option func(*pgxpool.Config)

// WithApplicationName sets the name that pg_stat_activity shows; "passbook" unless set.
func WithApplicationName(name string) Option {
	return func(c *pgxpool.Config) { setDefault(c, "application_name", name) }
}

// WithMaxConns limits the number of connections; the default is four per CPU, at least 8 and at most 32.
func WithMaxConns(n int32) Option {
	return func(c *pgxpool.Config) { c.MaxConns = n }
}

// WithStatementTimeout limits every statement. The server ends one that takes longer with SQLSTATE 57014. Like the other
// settings it is sent when a connection opens; behind a pooler the role's settings apply instead, except for the name.
func WithStatementTimeout(d time.Duration) Option { return timeout("statement_timeout", d) }

// WithLockTimeout limits every wait for a lock. The server ends one that takes longer with SQLSTATE 55P03.
func WithLockTimeout(d time.Duration) Option { return timeout("lock_timeout", d) }

// WithIdleInTransactionTimeout limits how long a transaction may wait for its client. The server ends the session of one that
// waits longer, so that a stalled process cannot hold its locks forever.
func WithIdleInTransactionTimeout(d time.Duration) Option {
	return timeout("idle_in_transaction_session_timeout", d)
}

// WithGenericPlans makes PostgreSQL plan each prepared statement once. Otherwise it would plan a statement whose arrays differ
// in length at every call, which takes longer than running it.
func WithGenericPlans() Option {
	return func(c *pgxpool.Config) { setDefault(c, "plan_cache_mode", "force_generic_plan") }
}

// WithIndexLookups makes PostgreSQL look rows up by index and join them by nested loops, whatever the statistics say: a
// statement for a few rows of a large table must not keep a plan from the time when the table was small. It also turns off the
// JIT compiler: PostgreSQL estimates a scan that is turned off at such a cost that it would compile a statement which has no other
// way, and that takes far longer than running it.
func WithIndexLookups() Option {
	return func(c *pgxpool.Config) {
		for _, name := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
			setDefault(c, name, "off")
		}
	}
}

// WithTracer makes every connection report to tracer, which may also implement pgx's other tracer interfaces.
func WithTracer(tracer pgx.QueryTracer) Option {
	return func(c *pgxpool.Config) { c.ConnConfig.Tracer = tracer }
}

// timeout sets a server timeout in milliseconds, rounded up, because 0 would mean none.
func timeout(name string, d time.Duration) Option {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return func(c *pgxpool.Config) { setDefault(c, name, strconv.FormatInt(int64(ms), 10)) }
}

// setDefault sets a parameter unless it is already set, for example by the URL.
func setDefault(c *pgxpool.Config, name, value string) {
	if _, ok := c.ConnConfig.RuntimeParams[name]; !ok && value != "" {
		c.ConnConfig.RuntimeParams[name] = value
	}
}

// NewPool returns a pool of connections to the database at url. It does not connect: if the database is unavailable, the
// first use fails (see IsUnavailable), and the pool reconnects once the database is back. It fails if the URL is
// invalid; the error does not quote the password. The caller closes the pool.
//
// A statement whose commit did not wait for the synchronous standby fails with an error for which IsUnavailable is true.
func NewPool(ctx context.Context, url string, opts ...Option) (*pgxpool.Pool, error) {
	config, err := parse(url, "")
	if err != nil {
		return nil, err
	}
	fromURL := config.MaxConns
	config.MaxConns = int32(min(max(8, 4*runtime.GOMAXPROCS(0)), 32))
	for _, opt := range opts {
		opt(config)
	}
	if strings.Contains(url, "pool_max_conns=") {
		config.MaxConns = fromURL
	}
	setDefault(config, "application_name", defaultApplicationName)
	setDefaults(config)
	// Discard a session that reports a read-only transaction: it may stay read-only when the database no longer is.
	keep := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		return err.Code != readOnlyTransaction && (keep == nil || keep(conn, err))
	}
	config.ConnConfig.BuildFrontend = newFrontend
	config.AfterConnect = registerBinaryArrays
	// Connections opened together in a burst should not all end together an hour later.
	if config.MaxConnLifetimeJitter == 0 {
		config.MaxConnLifetimeJitter = config.MaxConnLifetime / 10
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("database pool: %w", err)
	}
	return pool, nil
}
