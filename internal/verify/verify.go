// Package verify checks the log's invariants, and compares every read model with one that it recomputes from the log in
// SQL. It shares no code with what wrote them, so it cannot repeat their mistakes.
//
// It reads one snapshot, so it can run while the service is live, and it writes nothing.
package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoSchema means that the database does not have the schema that this version needs.
var ErrNoSchema = errors.New("the database does not have the schema of this version")

// Report is the result of a verification.
type Report struct {
	// OK is true when no check found a difference.
	OK bool `json:"ok"`
	// First is the first position from which on the log has every event, and Head that of the last event in the snapshot: the events
	// from First to Head were checked.
	First       int64        `json:"first"`
	Head        int64        `json:"head"`
	Projections []Projection `json:"projections"`
	Checks      []Check      `json:"checks"`
	// NotChecked are the projections without a check; OK says nothing about them.
	NotChecked []string `json:"not_checked"`
	// NeedArchive are the checks that were not made because they need the events before First.
	NeedArchive []string `json:"need_archive,omitempty"`
	// Sealed counts the events whose text is sealed. It was not compared with the read models, everything else was.
	Sealed  int64   `json:"sealed,omitzero"`
	Seconds float64 `json:"seconds"`
}

// Projection is the state of a read model in the snapshot: its rows must be the fold of events 1 to Position.
type Projection struct {
	ID         string `json:"id"`
	Position   int64  `json:"position"`
	Generation int64  `json:"generation"`
	// Parked counts the parked accounts. Each is checked against the events before the one that could not be applied.
	Parked int64 `json:"parked"`
}

// Check is the result of one check.
type Check struct {
	Name string `json:"name"`
	// About says what must hold.
	About string `json:"about"`
	// Differences counts all differences; Told lists the first of them.
	Differences int64        `json:"differences"`
	Told        []Difference `json:"told,omitempty"`
}

// Difference is a value that is not as expected.
type Difference struct {
	// Item names the row, such as "account 0190a0d2-…" or "position 17".
	Item string `json:"item"`
	// Field is the column, or another property of the row.
	Field string `json:"field"`
	Has   string `json:"has"`
	Want  string `json:"want"`
}

// DB is a connection or a pool to the primary or a standby. Its role must be allowed to read all tables.
type DB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

const (
	boundsSQL = `select first_position, coalesce((select position from events order by position desc limit 1), 0) from log_begin`

	sealedSQL = `select count(*) from events where payload ? 'sealed'`

	projectionsSQL = `select p.id, p.position, p.generation,
    (select count(*) from projection_failures f where f.projection = p.id and f.generation = p.generation and f.parked)
from projections p order by p.id`

	// Counts all differences of a check, and returns the first.
	tellSQL = `select d.item, d.field, coalesce(d.has, 'nothing'), coalesce(d.want, 'nothing'), count(*) over ()
from (%s) as d (place, item, field, has, want) order by d.place, d.item, d.field limit $1`

	// Sorts and hashes of a whole log need more than the default. What does not fit goes to temporary files.
	memorySQL = `set local work_mem = '64MB'`
)

// Checks returns how many checks Run makes.
func Checks() int { return len(checks) }

// Run makes all checks and returns at most limit differences of each. before, if not nil, is called before each check. If Run
// fails, it is unknown whether there are differences.
func Run(ctx context.Context, db DB, limit int, before func(Check)) (Report, error) {
	start := time.Now()
	var report Report
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, db, options, func(tx pgx.Tx) (err error) {
		report, err = within(ctx, tx, limit, before)
		return err
	})
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && (pgErr.Code == "42P01" || pgErr.Code == "42703") {
		err = fmt.Errorf("%w: %w", ErrNoSchema, err) // no such table, no such column
	}
	if err != nil {
		return Report{}, fmt.Errorf("verify: %w", err)
	}
	report.Seconds = time.Since(start).Seconds()
	return report, nil
}

func within(ctx context.Context, tx pgx.Tx, limit int, before func(Check)) (Report, error) {
	report := Report{OK: true, NotChecked: []string{}}
	if _, err := tx.Exec(ctx, memorySQL); err != nil {
		return report, fmt.Errorf("set work_mem: %w", err)
	}
	if err := tx.QueryRow(ctx, boundsSQL).Scan(&report.First, &report.Head); err != nil {
		return report, fmt.Errorf("bounds of the log: %w", err)
	}
	if err := tx.QueryRow(ctx, sealedSQL).Scan(&report.Sealed); err != nil {
		return report, fmt.Errorf("sealed events: %w", err)
	}
	rows, _ := tx.Query(ctx, projectionsSQL)
	var err error
	if report.Projections, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Projection]); err != nil {
		return report, fmt.Errorf("projections: %w", err)
	}
	known := make(map[string]bool)
	for _, c := range checks {
		known[c.projection] = true
	}
	for i := range report.Projections {
		if id := report.Projections[i].ID; !known[id] {
			report.NotChecked = append(report.NotChecked, id)
		}
	}
	for _, c := range checks {
		if c.whole && report.First > 1 {
			report.NeedArchive = append(report.NeedArchive, c.name)
			continue
		}
		check := Check{Name: c.name, About: c.about}
		if before != nil {
			before(check)
		}
		if err := check.run(ctx, tx, c.sql, limit); err != nil {
			return report, fmt.Errorf("%s: %w", c.name, err)
		}
		report.OK = report.OK && check.Differences == 0
		report.Checks = append(report.Checks, check)
	}
	return report, nil
}

func (c *Check) run(ctx context.Context, tx pgx.Tx, sql string, limit int) error {
	rows, _ := tx.Query(ctx, fmt.Sprintf(tellSQL, sql), max(limit, 1))
	var err error
	c.Told, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Difference, error) {
		var d Difference
		return d, row.Scan(&d.Item, &d.Field, &d.Has, &d.Want, &c.Differences)
	})
	return err
}
