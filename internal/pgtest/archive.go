package pgtest

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
)

const (
	archivedSQL = `select stream_id, type, schema_version, payload from events where position < $1 order by position`

	snapshotSQL = `update events e set metadata = e.metadata || jsonb_build_object('state', $3::jsonb)
where e.stream_id = $1 and e.version = (select max(l.version) from events l where l.stream_id = $1 and l.position < $2)`

	keepStubSQL = `delete from events e where e.position < $1 and e.type not in
    ('AccountCreated', 'TransferSent', 'SubjectErased', 'HoldPlaced', 'HoldCaptured', 'HoldReleased', 'HoldExpired')
and e.version < (select max(l.version) from events l where l.stream_id = e.stream_id and l.position < $1)`
)

// Archive leaves of the events before position first what docs/adr/0024 has the log keep of archived ones. The pool's role must own
// the tables, and the events must be ones that the domain allows.
func Archive(t testing.TB, pool *pgxpool.Pool, first int64) {
	t.Helper()
	ctx := t.Context()
	rows, err := pool.Query(ctx, archivedSQL, first)
	if err != nil {
		t.Fatalf("archive: %v", err)
	}
	states := make(map[uuid.UUID]account.State)
	var (
		id      uuid.UUID
		kind    string
		schema  int
		payload []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &kind, &schema, &payload}, func() error {
		event, err := eventjson.Decode(kind, schema, payload)
		if err == nil {
			states[id], err = account.Evolve(states[id], event)
		}
		return err
	})
	if err = errors.Join(err, rows.Err()); err != nil {
		t.Fatalf("archive: %v", err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for id := range states {
			state, err := eventjson.MarshalState(states[id])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, snapshotSQL, id, first, state); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, keepStubSQL, first); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update log_begin set first_position = $1`, first)
		return err
	})
	if err != nil {
		t.Fatalf("archive: %v", err)
	}
}
