package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
)

const (
	// Batches of streams are found in the order of an index, never by grouping the whole table.
	settingsSQL = `set enable_hashagg = off; set lock_timeout = '5s'`

	// One process at a time detaches or attaches partitions of a log. PostgreSQL may notice only after a moment that one has ended. The
	// number is arbitrary.
	onlySQL = `select pg_advisory_lock(7018230151)`

	partitionsSQL = `select p.name, p.first_position, p.last_position, p.last_position < b.first_position as stub, p.last_position < e.head,
       pg_total_relation_size(quote_ident(p.name)::regclass), to_regclass(archived) is not null, coalesce(pg_total_relation_size(to_regclass(archived)), 0)
from log_partitions p
cross join log_begin b
cross join (select coalesce(max(position), 0) as head from events) as e
cross join lateral (select case when p.name like '%\_stub' then quote_ident(substr(p.name, 1, length(p.name) - 5)) end as archived) as a
order by p.first_position`

	// What waits for the lock on the log holds up all appends, and so does what happens under it.
	limitsSQL = `set local lock_timeout = '1s'; set local statement_timeout = '2s'`

	lockSQL = `lock table only events in access exclusive mode`

	beginSQL = `update log_begin set first_position = $2 where first_position = $1`

	// Default privileges may have granted others to write to a new table. Rights on the log are those on the whole table.
	othersSQL = `select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
from pg_class c cross join aclexplode(c.relacl) as a where c.oid = $1::regclass and a.grantee <> c.relowner`
)

const (
	// swapFor is how long a swap is tried; between two tries it waits for shortPause to longPause.
	swapFor               = time.Minute
	shortPause, longPause = 200 * time.Millisecond, 2 * time.Second
)

// stubSuffix is what the name of a stub has after that of its partition.
const stubSuffix = "_stub"

// Options says which partitions are detached or attached, and how.
type Options struct {
	// Codec is that of the log, nil if nothing in it is sealed.
	Codec eventstore.Codec
	// To is the position up to which partitions are detached, or from which on the log shall be whole; 0 means as far as possible.
	To int64
	// Drop drops tables once they are detached. The files are then all that is left.
	Drop bool
	// ForgetPrevious gives up previous generations of projections that need a partition: there is no rollback to them any more.
	ForgetPrevious bool
	Progress       Progress
}

// Entry is a partition of the log with what there is of it. Sizes are in bytes, with indexes.
type Entry struct {
	Partition
	// Stub is set if the log has only the stub. The rest is in the archive, and in the detached table until that is dropped.
	Stub bool
	// Closed is set if the log has grown beyond it.
	Closed bool
	// Size is that of the partition or the stub.
	Size int64
	// Detached is set if the detached table is there.
	Detached     bool
	DetachedSize int64
	// File is the name of the file if List has found it and its manifest.
	File     string
	FileSize int64
}

// Table is the name that the whole partition has, or had.
func (e *Entry) Table() string { return strings.TrimSuffix(e.Name, stubSuffix) }

func entries(ctx context.Context, db querier) ([]Entry, error) {
	rows, _ := db.Query(ctx, partitionsSQL) // an error is in rows too
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		return e, row.Scan(&e.Name, &e.First, &e.Last, &e.Stub, &e.Closed, &e.Size, &e.Detached, &e.DetachedSize)
	})
	if err != nil {
		return nil, fmt.Errorf("archive: list the partitions: %w", err)
	}
	return all, nil
}

// List returns all partitions of the log, with what there is of each, also in a directory.
func List(ctx context.Context, pool *pgxpool.Pool, dir string) ([]Entry, error) {
	_, manifests, err := manifestsOf(ctx, pool, dir)
	if err != nil {
		return nil, err
	}
	all, err := entries(ctx, pool)
	if err != nil {
		return nil, err
	}
	for i := range all {
		m, ok := manifestOf(manifests, all[i].Partition)
		if !ok {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, m.File))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		all[i].File, all[i].FileSize = m.File, info.Size()
	}
	return all, nil
}

// session is the only one that detaches or attaches partitions of the log, and the only one in the directory.
type session struct {
	conn      *pgx.Conn // holds the lock until it is closed
	dir       string
	unlock    func()
	manifests []Manifest
	Options
}

func begin(ctx context.Context, pool *pgxpool.Pool, dir string, o Options) (_ *session, err error) {
	s := &session{dir: dir, Options: o}
	if s.unlock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.end(ctx)
		}
	}()
	if _, s.manifests, err = manifestsOf(ctx, pool, dir); err != nil {
		return nil, err
	}
	c, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	s.conn = c.Hijack()
	if _, err := s.conn.Exec(ctx, settingsSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if _, err := s.conn.Exec(ctx, onlySQL); err != nil {
		if busy(err) {
			return nil, errors.New("archive: another process detaches or attaches partitions of this log")
		}
		return nil, fmt.Errorf("archive: %w", err)
	}
	return s, nil
}

func (s *session) end(ctx context.Context) {
	if s.conn != nil {
		_ = s.conn.Close(context.WithoutCancel(ctx)) // the lock ends in any case
	}
	s.unlock()
}

func (s *session) exec(ctx context.Context, statements ...string) error {
	for _, sql := range statements {
		if _, err := s.conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	return nil
}

// compare fails unless the file and the table have the rows that the manifest says.
func (s *session) compare(ctx context.Context, m Manifest, e *Entry) error {
	if err := m.CheckRows(s.dir, func(r Row) error {
		s.Progress("read the file of", e.Partition, r.Position-m.FirstPosition+1)
		return ctx.Err()
	}); err != nil {
		return err
	}
	return s.compareTable(ctx, s.conn, m, e)
}

// compareTable fails unless the table has the rows that the manifest says.
func (s *session) compareTable(ctx context.Context, db querier, m Manifest, e *Entry) error {
	hash := NewHash()
	err := eachRow(ctx, db, e.Table(), e.Partition, func(r *Row) error {
		hash.Add(r)
		s.Progress("compare", e.Partition, r.Position-e.First+1)
		return nil
	})
	if err == nil && hash.Sum() != m.RowsSHA256 {
		err = fmt.Errorf("archive: the rows of the table %s are not those of %s", e.Table(), m.File)
	}
	return err
}

// restrict revokes what default privileges or an administrator may have granted on a table that becomes a part of the log.
func (s *session) restrict(ctx context.Context, table string) error {
	rows, _ := s.conn.Query(ctx, othersSQL, quote(table)) // an error is in rows too
	others, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, other := range others {
		if err == nil {
			_, err = s.conn.Exec(ctx, "revoke all on "+quote(table)+" from "+other) // as PostgreSQL quotes it
		}
	}
	if err != nil {
		return fmt.Errorf("archive: restrict %s: %w", table, err)
	}
	return nil
}

// A swap replaces a partition of the log.
type swap struct {
	Partition
	out, in string // names of tables
	// The position at which the log begins, before and after.
	from, to int64
	// check is called under the lock. An error of it undoes everything.
	check func(context.Context, pgx.Tx) error
	after string // a last statement
}

// swap replaces a partition in one transaction, which waits for the lock in short tries.
func (s *session) swap(ctx context.Context, w swap) error {
	for until := time.Now().Add(swapFor); ; {
		err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error { return w.run(ctx, tx) })
		if err == nil {
			return nil
		}
		if !busy(err) {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("archive: the log was in use for %s without a pause; see what holds locks on the table events: %w", swapFor, err)
		}
		timer := time.NewTimer(shortPause + rand.N(longPause-shortPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func (w *swap) run(ctx context.Context, tx pgx.Tx) error {
	for _, sql := range []string{limitsSQL, lockSQL} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("archive: %w", err)
		}
	}
	if w.check != nil {
		if err := w.check(ctx, tx); err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, beginSQL, w.from, w.to)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("the log no longer begins at position %d", w.from)
	}
	for _, sql := range []string{
		"alter table events detach partition " + quote(w.out),
		fmt.Sprintf("alter table events attach partition %s for values from (%d) to (%d)", quote(w.in), w.First, w.Last+1),
		"alter table " + quote(w.in) + " drop constraint " + quote(boundsOf(w.in)),
		w.after,
	} {
		if err == nil && sql != "" {
			_, err = tx.Exec(ctx, sql)
		}
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "57014" {
		err = fmt.Errorf("PostgreSQL had to read the table, because events has had a new index or constraint since it was detached; "+
			"drop the table %s and attach again, which reads the file: %w", w.in, err)
	}
	if err != nil {
		return fmt.Errorf("archive: swap %s for %s: %w", w.out, w.in, err)
	}
	return nil
}

// boundsOf is the name of a constraint thanks to which a table becomes a partition without being read.
func boundsOf(table string) string { return table + "_bounds" }

// busy reports whether an error says that others use the log: the wait for a lock took too long, or there was a deadlock.
func busy(err error) bool {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (refused.Code == "55P03" || refused.Code == "40P01")
}
