package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// sessionSettings are the settings that the service's SQL and the driver rely on, and that a role or a database can preset.
// Every connection sets them; they override the URL. default_transaction_read_only is not among them: an administrator,
// or a provider whose disk is full, uses it to make a database read-only for the service too.
var sessionSettings = map[string]string{
	// A statement after the append lock must take a new snapshot.
	"default_transaction_isolation":  "read committed",
	"default_transaction_deferrable": "off",
	"client_encoding":                "UTF8",
	"datestyle":                      "ISO, MDY",
	"intervalstyle":                  "postgres",
	"timezone":                       "UTC",
	"standard_conforming_strings":    "on",
	"bytea_output":                   "hex",
	"extra_float_digits":             "1",
	"array_nulls":                    "on",
	"transform_null_equals":          "off",
	"quote_all_identifiers":          "off",
	"exit_on_error":                  "off",
}

// sessionDefaults are limits that must not come from a role or a database either: each pool sets its own, and a migration
// has none. The URL overrides them.
var sessionDefaults = map[string]string{
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
}

// poolerKeeps are the parameters that PgBouncer 1.18 keeps for each client. It refuses all others, or drops them.
var poolerKeeps = []string{"application_name", "client_encoding", "datestyle", "standard_conforming_strings", "timezone"}

// SessionError means that the service cannot work with a database, or with a role's settings in it. Waiting does not help.
type SessionError struct{ Reason string }

func (e *SessionError) Error() string { return e.Reason }

// parse reads a database URL. Its pool_* parameters are for the pool and are not sent to PostgreSQL.
func parse(url, application string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	params := config.ConnConfig.RuntimeParams
	for name, value := range params {
		if lower := strings.ToLower(name); lower != name { // PostgreSQL ignores case
			delete(params, name)
			params[lower] = value
		}
	}
	maps.Copy(params, sessionSettings)
	setDefault(config, "application_name", application)
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = defaultConnectTimeout
	}
	config.ConnConfig.DialFunc = dialer().DialContext
	config.ConnConfig.AfterConnect = checkSession
	config.BeforeConnect = new(route).prepare
	return config, nil
}

// setDefaults sets the limits that neither an option nor the URL sets.
func setDefaults(config *pgxpool.Config) {
	for name, value := range sessionDefaults {
		setDefault(config, name, value)
	}
}

// checkSession refuses a database whose encoding loses characters. It also resets a limit that PostgreSQL 17 added and
// older versions do not know.
func checkSession(ctx context.Context, conn *pgconn.PgConn) error {
	if encoding := conn.ParameterStatus("server_encoding"); encoding != "UTF8" {
		return &SessionError{fmt.Sprintf("the database has the encoding %s, and Passbook needs UTF8: "+
			"create database ... template template0 encoding 'UTF8'", encoding)}
	}
	version, _, _ := strings.Cut(conn.ParameterStatus("server_version"), ".")
	if major, err := strconv.Atoi(version); err == nil && major >= 17 {
		if err := conn.Exec(ctx, "set transaction_timeout = 0").Close(); err != nil {
			return fmt.Errorf("set transaction_timeout: %w", err)
		}
	}
	return nil
}

// route is how a pool reaches PostgreSQL: directly or through a pooler.
type route struct{ found atomic.Pointer[bool] }

// prepare is a pool's BeforeConnect. Behind a pooler such as PgBouncer in transaction mode, a session does not belong to one
// client: no statement stays prepared, and settings come only from the role and the database, which are checked instead.
func (r *route) prepare(ctx context.Context, config *pgx.ConnConfig) error {
	pooled := r.found.Load()
	if pooled == nil {
		is, err := isPooled(ctx, config.Copy())
		if err != nil {
			return err
		}
		pooled = &is
		r.found.Store(pooled)
	}
	if *pooled {
		throughPooler(config)
	}
	return nil
}

// isPooled connects once. A pooler either refuses unknown parameters or behaves like a server; in the second case the process
// that serves the connection is not the one announced at connect.
func isPooled(ctx context.Context, config *pgx.ConnConfig) (bool, error) {
	config.AfterConnect = nil
	conn, err := pgconn.ConnectConfig(ctx, &config.Config)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "08P01" {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.Exec(ctx, "select pg_backend_pid()").ReadAll()
	if err != nil {
		return false, fmt.Errorf("look for a pooler: %w", err)
	}
	return string(results[0].Rows[0][0]) != strconv.FormatUint(uint64(conn.PID()), 10), nil
}

func throughPooler(config *pgx.ConnConfig) {
	maps.DeleteFunc(config.RuntimeParams, func(name, _ string) bool { return !slices.Contains(poolerKeeps, name) })
	if config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	config.AfterConnect = checkPooled
}

// checkPooled checks that the role and the database have the settings that could not be sent.
func checkPooled(ctx context.Context, conn *pgconn.PgConn) error {
	if err := checkSession(ctx, conn); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(sessionSettings))
	results, err := conn.Exec(ctx, "select name, setting, quote_ident(current_user) from pg_settings where name in ('"+
		strings.Join(names, "', '")+"')").ReadAll()
	if err != nil {
		return fmt.Errorf("read the settings of the session: %w", err)
	}
	for _, row := range results[0].Rows {
		name, has, role := strings.ToLower(string(row[0])), string(row[1]), string(row[2])
		if want := sessionSettings[name]; has != want && !slices.Contains(poolerKeeps, name) {
			return &SessionError{fmt.Sprintf("%s is %q behind the connection pooler, and has to be %q: alter role %s set %s = '%s', "+
				"and reconnect the pooler", name, has, want, role, name, want)}
		}
	}
	return nil
}

// Pooled reports whether a connection goes through a pooler, which may give each of its transactions another session.
func Pooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return false, fmt.Errorf("look for a pooler: %w", err)
	}
	return pid != conn.PgConn().PID(), nil
}
