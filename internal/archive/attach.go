package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// %[1]s is a table that was detached, %[2]s the name of the constraint.
const boundSQL = `alter table %[1]s drop constraint if exists %[2]s, add constraint %[2]s check (position between %[3]d and %[4]d)`

// Whether the log has kept an event that the table does not have. %[1]s is the stub, %[2]s the table.
const otherSQL = `select exists (select from %[1]s s left join %[2]s t using (position) where t.event_id is distinct from s.event_id)`

// columns are the columns of the table events, in the order of the fields of Row.
var columns = []string{"position", "stream_id", "version", "event_id", "type", "schema_version", "payload", "metadata", "recorded_at"}

// Attached is a partition that is whole again.
type Attached struct {
	Partition
	// Loaded is set if its rows were read from the file, and not from the detached table.
	Loaded bool
}

// Attach replaces stubs by whole partitions again, last first, and returns those that it finished. It may run while servers do, and
// again after an interruption.
func Attach(ctx context.Context, pool *pgxpool.Pool, dir string, o Options) (done []Attached, err error) {
	s, err := begin(ctx, pool, dir, o)
	if err != nil {
		return nil, err
	}
	defer s.end(ctx)
	all, err := entries(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Backward(all) {
		switch {
		case !e.Stub:
			continue
		case e.Last < o.To:
			return done, nil
		}
		a, err := s.attach(ctx, &e)
		if err != nil {
			return done, err
		}
		done = append(done, a)
	}
	return done, nil
}

func (s *session) attach(ctx context.Context, e *Entry) (a Attached, err error) {
	table := e.Table()
	a = Attached{Partition{table, e.First, e.Last}, !e.Detached}
	m, exported := manifestOf(s.manifests, e.Partition)
	if !exported {
		return a, fmt.Errorf("archive: %s does not have the positions %d to %d", s.dir, e.First, e.Last)
	}
	if a.Loaded {
		err = s.load(ctx, m, e)
	} else {
		err = s.compare(ctx, m, e)
	}
	if err == nil {
		err = s.compareStub(ctx, e)
	}
	if err == nil {
		err = s.restrict(ctx, table)
	}
	if err == nil && !a.Loaded {
		err = s.exec(ctx, fmt.Sprintf(boundSQL, quote(table), quote(boundsOf(table)), e.First, e.Last))
	}
	if err == nil {
		err = s.swap(ctx, swap{
			Partition: e.Partition, out: e.Name, in: table, from: e.Last + 1, to: e.First, after: "drop table " + quote(e.Name),
		})
	}
	return a, err
}

// compareStub fails with ErrOtherLog if the table has other events than the stub. Then it drops the table, unless that was detached here.
func (s *session) compareStub(ctx context.Context, e *Entry) error {
	var other bool
	if err := s.conn.QueryRow(ctx, fmt.Sprintf(otherSQL, quote(e.Name), quote(e.Table()))).Scan(&other); err != nil {
		return fmt.Errorf("archive: compare %s with its stub: %w", e.Table(), err)
	}
	if !other {
		return nil
	}
	err := fmt.Errorf("archive: positions %d to %d: %w", e.First, e.Last, ErrOtherLog)
	if !e.Detached {
		err = errors.Join(err, s.exec(ctx, "drop table "+quote(e.Table())))
	}
	return err
}

// load makes the table of a partition from its file, all of it or nothing.
func (s *session) load(ctx context.Context, m Manifest, e *Entry) error {
	err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, newTable(e.Table(), e.Table()+"_stream_version", e.Partition), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		rows := s.rows(ctx, m, e)
		defer rows.stop()
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{e.Table()}, columns, rows); err != nil {
			return cmp.Or(rows.err, err)
		}
		return s.compareTable(ctx, tx, m, e)
	})
	if err != nil {
		return fmt.Errorf("archive: load %s: %w", m.File, err)
	}
	return s.exec(ctx, "vacuum (freeze, analyze) "+quote(e.Table()))
}

// fileRows are the rows of a file for COPY, which fails at the end if they are not those of the manifest.
type fileRows struct {
	next func() (Row, error, bool)
	stop func()
	row  Row
	err  error
}

var errStopped = errors.New("the rest is not needed")

func (s *session) rows(ctx context.Context, m Manifest, e *Entry) *fileRows {
	next, stop := iter.Pull2(func(yield func(Row, error) bool) {
		err := m.CheckRows(s.dir, func(r Row) error {
			s.Progress("load", e.Partition, r.Position-e.First+1)
			if !yield(r, ctx.Err()) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Row{}, err)
		}
	})
	return &fileRows{next: next, stop: stop}
}

func (f *fileRows) Next() (more bool) {
	f.row, f.err, more = f.next()
	return more && f.err == nil
}

func (f *fileRows) Values() ([]any, error) {
	r := &f.row
	return []any{
		r.Position, [16]byte(r.StreamID), r.Version, [16]byte(r.EventID), r.Type, r.SchemaVersion, r.Payload, r.Metadata, time.UnixMicro(r.RecordedAt),
	}, nil
}

func (f *fileRows) Err() error { return f.err }
