package projector

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	forgetPreviousSQL = `update projections
set previous_generation = null, previous_version = null, previous_position = null
where id = $1 returning generation`

	deleteOldFailuresSQL = `delete from projection_failures where projection = $1 and generation <> $2 and generation < $3`

	// While the row of the running replay is locked, no flip can be committed, and no other replay or rollback can start.
	lockCleanupSQL = `select from projection_replays r join projections p on p.id = r.projection
where r.id = $1 and r.state = 'running' and r.position = 0 and r.generation = $2 and p.epoch = $3
  and p.generation <> $4 and p.previous_generation is distinct from $4
for update of r`
)

// deleteOld deletes the rows of every generation before the one that a replay builds, except the live one. The previous generation
// goes too, so there is nothing to roll back to until the replay has completed.
func (s *stateStore) deleteOld(ctx context.Context, row replayRow) error {
	var live int64
	err := s.begin(ctx, func(tx pgx.Tx) error {
		if err := row.hold(ctx, tx, Checkpoint{}); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, forgetPreviousSQL, s.def.ID).Scan(&live); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, deleteOldFailuresSQL, s.def.ID, live, row.r.generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("projector: delete old generations of %s: %w", s.def.ID, err)
	}
	for _, table := range s.def.Tables {
		if err := s.deleteOldOf(ctx, row, pgx.Identifier{table}.Sanitize(), live); err != nil {
			return fmt.Errorf("projector: delete old generations of %s: %w", table, err)
		}
	}
	return nil
}

func (s *stateStore) deleteOldOf(ctx context.Context, row replayRow, table string, live int64) error {
	// The index finds each generation; its rows are deleted in small steps.
	next := "select min(generation) from " + table + " where generation > $1 and generation < $2"
	for after := int64(0); ; {
		var generation *int64
		err := s.cfg.Pool.QueryRow(ctx, next, after, row.r.generation).Scan(&generation)
		if err != nil || generation == nil {
			return err
		}
		if after = *generation; after == live {
			continue
		}
		for more := true; more; {
			if more, err = s.deleteStep(ctx, row, table, after); err != nil {
				return err
			}
		}
	}
}

// deleteStep deletes some rows of a generation, and returns whether there may be more. Each step checks again that the generation
// may be deleted, and returns errFenced if not: since the last step, a standby that lacks the last flip may have become the
// primary, or another instance the owner.
func (s *stateStore) deleteStep(ctx context.Context, row replayRow, table string, generation int64) (more bool, err error) {
	err = s.begin(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, lockCleanupSQL, row.r.id, row.r.generation, row.epoch, generation)
		if err := exactlyOne(tag, err); err != nil {
			return err
		}
		tag, err = tx.Exec(ctx, "delete from "+table+" where ctid = any (array(select ctid from "+table+
			" where generation = $1 limit 10000))", generation)
		more = tag.RowsAffected() > 0
		return err
	})
	return more, err
}
