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
)

// deleteOld deletes the rows of generations that are over when a replay begins: those before the one it builds, except the
// live one. The previous one could be rolled back to until then, and from then on cannot.
func (s *stateStore) deleteOld(ctx context.Context, c replayRow) error {
	var live int64
	err := s.begin(ctx, func(tx pgx.Tx) error {
		if err := c.hold(ctx, tx, checkpoint{}); err != nil {
			return err
		}
		return tx.QueryRow(ctx, forgetPreviousSQL, s.def.ID).Scan(&live)
	})
	if err != nil {
		return fmt.Errorf("projector: delete old generations of %s: %w", s.def.ID, err)
	}
	return s.deleteGenerations(ctx, live, c.r.generation)
}

// deleteGenerations does no harm when a stalled owner does it late: a generation that is over stays so, and those from the one
// being built on are left alone.
func (s *stateStore) deleteGenerations(ctx context.Context, live, building int64) error {
	if _, err := s.cfg.Pool.Exec(ctx, deleteOldFailuresSQL, s.def.ID, live, building); err != nil {
		return fmt.Errorf("projector: delete old generations of %s: %w", s.def.ID, err)
	}
	for _, table := range s.def.Tables {
		if err := s.deleteGenerationsOf(ctx, pgx.Identifier{table}.Sanitize(), live, building); err != nil {
			return fmt.Errorf("projector: delete old generations of %s: %w", table, err)
		}
	}
	return nil
}

func (s *stateStore) deleteGenerationsOf(ctx context.Context, table string, live, building int64) error {
	// Each generation is found by the index, and deleted in small steps.
	next := "select min(generation) from " + table + " where generation > $1 and generation < $2"
	remove := fmt.Sprintf("delete from %s where ctid = any (array(select ctid from %s where generation = $1 limit 10000))",
		table, table)
	for after := int64(0); ; {
		var generation *int64
		err := s.cfg.Pool.QueryRow(ctx, next, after, building).Scan(&generation)
		if err != nil || generation == nil {
			return err
		}
		if after = *generation; after == live {
			continue
		}
		for {
			tag, err := s.cfg.Pool.Exec(ctx, remove, after)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				break
			}
		}
	}
}
