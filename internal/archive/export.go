package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// A partition is closed once all its positions are taken and every projection has applied them. Those before the log's begin are
	// in an archive already, and what the log has of them is not all.
	closedSQL = `select name, first_position, last_position from log_partitions
where last_position < (select position from events order by position desc limit 1)
  and last_position <= (select min(position) from projections)
  and first_position >= (select first_position from log_begin)
order by first_position`

	rowsSQL = `select position, stream_id, version, event_id, type, schema_version, payload::text, metadata::text, recorded_at
from %s where position between $1 and $2 order by position`

	// Every stub has the event at position 1, because it opens an account.
	logSQL = `select event_id from events where position = 1`

	idsSQL = `select (select event_id from events where position = $1), (select event_id from events where position = $2)`
)

// ErrOtherLog means that a directory holds the archive of another log.
var ErrOtherLog = errors.New("the directory holds the archive of another log")

// Partition is a partition of the log.
type Partition struct {
	Name        string
	First, Last int64
}

// Progress is told about a step of the work on a partition, and how many of its events are done.
type Progress func(step string, p Partition, done int64)

// Export writes each closed partition that is not yet in dir, oldest first, and returns the manifests of those it wrote. A caller may
// run it again after an interruption; one process at a time works in a directory. It holds only a few thousand rows in memory.
func Export(ctx context.Context, pool *pgxpool.Pool, dir string, progress Progress) (written []Manifest, err error) {
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeLeftovers(dir); err != nil {
		return nil, err
	}
	id, there, err := manifestsOf(ctx, pool, dir)
	if err != nil {
		return nil, err
	}
	closed, err := closedPartitions(ctx, pool)
	if err != nil {
		return nil, err
	}
	for _, p := range closed {
		if m, ok := manifestOf(there, p); ok {
			if err := m.checkLog(ctx, pool); err != nil {
				return written, err
			}
			continue
		}
		m, err := writeRows(dir, p.First, p.Last, func(emit func(*Row) error) error {
			return eachRow(ctx, pool, "events", p, func(r *Row) error {
				progress("export", p, r.Position-p.First+1)
				return emit(r)
			})
		})
		if m.LogID = id; err == nil {
			err = m.write(dir)
		}
		if err != nil {
			return written, err
		}
		written = append(written, m)
	}
	return written, nil
}

func closedPartitions(ctx context.Context, pool *pgxpool.Pool) ([]Partition, error) {
	rows, _ := pool.Query(ctx, closedSQL) // an error is in rows too
	closed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Partition])
	if err != nil {
		return nil, fmt.Errorf("archive: list the partitions: %w", err)
	}
	return closed, nil
}

// manifestsOf returns the id of the log and the manifests of a directory, or ErrOtherLog if one of them is of another log.
func manifestsOf(ctx context.Context, db querier, dir string) (id uuid.UUID, all []Manifest, err error) {
	if all, err = Manifests(dir); err != nil {
		return id, nil, err
	}
	if err := db.QueryRow(ctx, logSQL).Scan((*[16]byte)(&id)); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return id, nil, fmt.Errorf("archive: look which log this is: %w", err)
	}
	for i := range all {
		if all[i].LogID != id {
			return id, nil, fmt.Errorf("archive: %s: %w", all[i].File, ErrOtherLog)
		}
	}
	return id, all, nil
}

func manifestOf(all []Manifest, p Partition) (Manifest, bool) {
	for _, m := range all {
		if m.FirstPosition == p.First && m.LastPosition == p.Last {
			return m, true
		}
	}
	return Manifest{}, false
}

// checkLog fails with ErrOtherLog unless the log has the manifest's first and last event.
func (m Manifest) checkLog(ctx context.Context, pool *pgxpool.Pool) error {
	var first, last [16]byte
	if err := pool.QueryRow(ctx, idsSQL, m.FirstPosition, m.LastPosition).Scan(&first, &last); err != nil {
		return fmt.Errorf("archive: compare %s with the log: %w", m.File, err)
	}
	if first != m.FirstEventID || last != m.LastEventID {
		return fmt.Errorf("archive: %s: %w", m.File, ErrOtherLog)
	}
	return nil
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// eachRow calls each with the rows that a table has of a partition, in order of position. The row is valid until each returns.
func eachRow(ctx context.Context, db querier, table string, p Partition, each func(*Row) error) error {
	rows, _ := db.Query(ctx, fmt.Sprintf(rowsSQL, quote(table)), p.First, p.Last) // an error is in rows too
	defer rows.Close()
	var r Row
	var recordedAt time.Time
	for ctx.Err() == nil && rows.Next() {
		err := rows.Scan(&r.Position, (*[16]byte)(&r.StreamID), &r.Version, (*[16]byte)(&r.EventID), &r.Type, &r.SchemaVersion,
			&r.Payload, &r.Metadata, &recordedAt)
		if err != nil {
			return fmt.Errorf("archive: read the log: %w", err)
		}
		r.RecordedAt = recordedAt.UnixMicro()
		if err := each(&r); err != nil {
			return err
		}
	}
	if err := cmp.Or(ctx.Err(), rows.Err()); err != nil {
		return fmt.Errorf("archive: read the log: %w", err)
	}
	return nil
}

// lockDir lets one process at a time work in a directory.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir) //nolint:gosec // the caller's
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("archive: another process works in %s: %w", dir, err)
	}
	return func() { _ = d.Close() }, nil
}

// removeLeftovers removes what a process that was killed has not finished.
func removeLeftovers(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, ".events-*"))
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
