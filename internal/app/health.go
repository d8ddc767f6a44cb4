package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/command"
	"passbook/internal/httpapi"
	"passbook/internal/postgres"
	"passbook/internal/projector"
)

// readiness reports whether the service can do its work, and the state of its projections. A halted projection does not make the
// service unready: that would take every instance out of service, and with them the reads that still work.
func (a *app) readiness(pools map[string]*pgxpool.Pool, engine *projector.Engine, parts *partitions, writer func() httpapi.Check) func(context.Context) []httpapi.Check {
	primary, queries := pools["commands"], pools["queries"]
	replica := queries.Config().ConnString() != primary.Config().ConnString()
	return func(ctx context.Context) []httpapi.Check {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if a.stopping.Load() {
			return []httpapi.Check{{Name: "process", Detail: "is stopping; another instance takes requests"}}
		}
		database := databaseCheck(ctx, primary, "is read-only: commands get 503 until it is writable")
		checks := []httpapi.Check{database}
		if !database.OK {
			return checks
		}
		if !a.started.Load() {
			return append(checks, httpapi.Check{Name: "schema", Detail: *a.waiting.Load()})
		}
		checks = append(checks, writer(), schemaCheck(ctx, primary), parts.check(ctx), roleCheck(ctx, primary))
		checks = append(checks, projectionChecks(ctx, engine)...)
		checks = append(checks, a.subjects.checks(ctx)...)
		if replica { // last, because it may use up the time limit
			check := databaseCheck(ctx, queries, "is available")
			if check.OK {
				check = schemaCheck(ctx, queries)
			}
			check.Name = "query database"
			checks = append(checks, check)
		}
		return checks
	}
}

// commandsCheck reports whether the write side takes commands.
func commandsCheck(commands *command.Service) httpapi.Check {
	if err := commands.Stalled(); err != nil {
		return httpapi.Check{Name: "commands", Detail: err.Error()}
	}
	return httpapi.Check{Name: "commands", OK: true, Detail: "are taken"}
}

func projectionChecks(ctx context.Context, engine *projector.Engine) []httpapi.Check {
	all, err := engine.Projections(ctx)
	if err != nil {
		return []httpapi.Check{{Name: "projections", Detail: "their state cannot be read"}}
	}
	checks := make([]httpapi.Check, len(all))
	for i, p := range all {
		detail := fmt.Sprintf("%s at position %d of %d", p.State, p.Position, p.Head)
		if p.Error != "" {
			detail += fmt.Sprintf("; stopped by the event at position %d", p.ErrorPosition)
		}
		if p.Parked > 0 {
			detail += fmt.Sprintf("; %d accounts are parked, GET /projections/%s/failures lists them", p.Parked, p.ID)
		}
		checks[i] = httpapi.Check{Name: "projection " + p.ID, OK: true, Detail: detail, Private: true}
	}
	return checks
}

// unavailable matches the errors that become a 503: also those of a database without the schema, or with another.
func unavailable(err error) bool { return postgres.IsUnavailable(err) || postgres.IsWrongSchema(err) }

// schemaCheck reports whether tables and functions are those that this binary expects.
func schemaCheck(ctx context.Context, pool *pgxpool.Pool) httpapi.Check {
	check := httpapi.Check{Name: "schema"}
	err := postgres.CheckSchema(ctx, pool)
	switch {
	case err == nil:
		check.OK, check.Detail = true, "is as expected"
	case postgres.IsWrongSchema(err):
		check.Detail = "is not what this version expects: run server verify, which says what differs"
	default:
		check.Detail = "cannot be read"
	}
	return check
}

// roleCheck reports whether the log is safe from the service's role. The service works even if it is not.
func roleCheck(ctx context.Context, pool *pgxpool.Pool) httpapi.Check {
	check := httpapi.Check{Name: "roles", OK: true, Private: true}
	role, err := postgres.RoleOf(ctx, pool)
	switch {
	case err != nil:
		check.Detail = "cannot be read"
	case role.Separate:
		check.Detail = "separate: the service can append to the log but cannot change it"
	default:
		check.Detail = "not separate: the service's role could change the log"
	}
	return check
}

// databaseCheck reports whether a database can be used. A read-only one counts as usable: it serves reads, which would be lost if
// all instances became unready.
func databaseCheck(ctx context.Context, pool *pgxpool.Pool, whenReadOnly string) httpapi.Check {
	check := httpapi.Check{Name: "database"}
	var readOnly bool
	err := pool.QueryRow(ctx, "select current_setting('transaction_read_only')::bool").Scan(&readOnly)
	refused, ok := errors.AsType[*pgconn.PgError](err)
	_, unfit := errors.AsType[*postgres.SessionError](err)
	switch {
	case err == nil && readOnly:
		check.OK, check.Detail = true, whenReadOnly
	case err == nil:
		check.OK, check.Detail = true, "is available"
	case unfit:
		check.Detail = "has settings that the service cannot work with; its log says which"
	case ok && refused.Code == "53300":
		check.Detail = "has no connection free"
	case ok && refused.Code == "57P03":
		check.Detail = "is starting or recovering"
	case ok && strings.HasPrefix(refused.Code, "28"):
		check.Detail = "refuses the service's login"
	case ok && refused.Code == "3D000":
		check.Detail = "does not exist"
	default:
		check.Detail = "is unavailable"
	}
	return check
}
