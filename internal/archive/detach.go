package archive

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const forgetSQL = `update projections set previous_generation = null, previous_version = null, previous_position = null,
    previous_event_id = null
where previous_generation is not null and previous_position <= $1`

// Detached is what became of a partition.
type Detached struct {
	Partition
	// Kept is how many rows the stub has, 0 if the partition had been detached before.
	Kept int64
	// Size is that of the detached table in bytes, StubSize that of the stub.
	Size, StubSize int64
	// Dropped is set if the detached table was dropped.
	Dropped bool
}

// Detach replaces partitions by their stubs, oldest first, and returns those that it finished. It stops with a *NeededError at the first
// that something still needs. It may run while servers do, and again after an interruption.
func Detach(ctx context.Context, pool *pgxpool.Pool, dir string, o Options) (done []Detached, err error) {
	s, err := begin(ctx, pool, dir, o)
	if err != nil {
		return nil, err
	}
	defer s.end(ctx)
	all, err := entries(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	for i := range all {
		e := &all[i]
		switch {
		case o.To > 0 && e.Last > o.To, o.To == 0 && !e.Closed:
			return done, nil
		case e.Stub && !(o.Drop && e.Detached):
			continue
		}
		d, err := s.detach(ctx, pool, e)
		if err != nil {
			return done, err
		}
		done = append(done, d)
	}
	return done, nil
}

// detach detaches a partition unless that was done before, and drops its table if it should.
func (s *session) detach(ctx context.Context, pool *pgxpool.Pool, e *Entry) (d Detached, err error) {
	d = Detached{Partition: Partition{e.Table(), e.First, e.Last}, Size: e.Size}
	m, exported := manifestOf(s.manifests, e.Partition)
	if !exported {
		return d, &NeededError{d.Partition, []string{fmt.Sprintf("%s does not have it: run server archive export", s.dir)}}
	}
	if e.Stub {
		d.Size, d.StubSize = e.DetachedSize, e.Size
		err = s.compare(ctx, m, e)
	} else {
		d.Kept, err = s.replace(ctx, pool, m, e)
		if err == nil {
			err = s.conn.QueryRow(ctx, "select pg_total_relation_size($1::regclass)", quote(e.Name+stubSuffix)).Scan(&d.StubSize)
		}
	}
	if err == nil && s.Drop {
		err = s.exec(ctx, "drop table "+quote(d.Name))
		d.Dropped = err == nil
	}
	return d, err
}

// replace replaces a partition by its stub, and returns how many rows that has.
func (s *session) replace(ctx context.Context, pool *pgxpool.Pool, m Manifest, e *Entry) (kept int64, err error) {
	if err := needed(ctx, s.conn, e.Partition, s.ForgetPrevious); err != nil {
		return 0, err
	}
	if err := s.compare(ctx, m, e); err != nil {
		return 0, err
	}
	stub := e.Name + stubSuffix
	if kept, err = s.makeStub(ctx, pool, e.Partition, stub); err != nil {
		return 0, err
	}
	return kept, s.swap(ctx, swap{
		Partition: e.Partition, out: e.Name, in: stub, from: e.First, to: e.Last + 1,
		check: func(ctx context.Context, tx pgx.Tx) error {
			if s.ForgetPrevious {
				if _, err := tx.Exec(ctx, forgetSQL, e.Last); err != nil {
					return fmt.Errorf("archive: forget previous generations: %w", err)
				}
			}
			return needed(ctx, tx, e.Partition, false)
		},
	})
}
