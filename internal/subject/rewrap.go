package subject

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	countSQL = `select count(*) from subject_keys where wrapped is not null`
	pageSQL  = `select subject_id, wrapped from subject_keys where wrapped is not null and subject_id > $1 order by subject_id limit $2`
	// A key that was destroyed, or wrapped again by another, since it was read stays as it is.
	rewrapSQL = `update subject_keys k set wrapped = n.wrapped from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as n(subject_id, before, wrapped)
where k.subject_id = n.subject_id and k.wrapped = n.before`
)

// Rewrapped is what Rewrap has done.
type Rewrapped struct {
	// Total is how many keys there are that were not destroyed, and Again how many of them were wrapped again.
	Total, Again int64
}

// Rewrap has all keys in a database wrapped by the first master key. It may be interrupted, and repeated, and run while instances use the
// keys and while another does the same. If a key is of none of the master keys, it does the others and then returns an error that wraps
// ErrMasterKey. It calls progress, unless it is nil, after each step.
func (m *MasterKey) Rewrap(ctx context.Context, pool *pgxpool.Pool, progress func(done, total int64)) (r Rewrapped, err error) {
	if err := pool.QueryRow(ctx, countSQL).Scan(&r.Total); err != nil {
		return r, databaseError("count the keys", err)
	}
	var failed []error
	for after, done := uuid.Nil, int64(0); ; {
		rows, _ := pool.Query(ctx, pageSQL, after, page) // CollectRows returns the error
		stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s storedKey, err error) { return s, row.Scan(&s.id, &s.wrapped) })
		if err != nil {
			return r, databaseError("read keys", err)
		}
		if len(stored) == 0 {
			break
		}
		again, err := m.rewrap(ctx, pool, stored)
		if r.Again += again; err != nil {
			if !errors.Is(err, ErrMasterKey) {
				return r, err
			}
			failed = append(failed, err)
		}
		after, done = stored[len(stored)-1].id, done+int64(len(stored))
		if progress != nil {
			progress(done, max(done, r.Total))
		}
	}
	if len(failed) > 0 {
		return r, failed[0]
	}
	return r, nil
}

// rewrap has keys wrapped again that the first master key has not wrapped, and returns how many.
func (m *MasterKey) rewrap(ctx context.Context, pool *pgxpool.Pool, stored []storedKey) (again int64, failed error) {
	var ids []uuid.UUID
	var before, after [][]byte
	for _, s := range stored {
		if m.byFirst(s.wrapped) {
			continue
		}
		key, err := m.Unwrap(ctx, s.id, s.wrapped)
		if err != nil {
			failed = fmt.Errorf("subject: the key of subject %s: %w", s.id, err)
			continue
		}
		box, err := m.Wrap(ctx, s.id, key)
		if err != nil {
			return 0, err
		}
		ids, before, after = append(ids, s.id), append(before, s.wrapped), append(after, box)
	}
	if len(ids) == 0 {
		return 0, failed
	}
	tag, err := pool.Exec(ctx, rewrapSQL, ids, before, after)
	if err != nil {
		return 0, databaseError("store keys", err)
	}
	return tag.RowsAffected(), failed
}
