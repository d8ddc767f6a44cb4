package eventstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	loadSnapshotsSQL = `select stream_id, version, position, event_id, state from snapshots where stream_id = any ($1)`

	saveSnapshotsSQL = `insert into snapshots (stream_id, version, position, event_id, state)
select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::jsonb[])
on conflict (stream_id) do update set version = excluded.version, position = excluded.position, event_id = excluded.event_id,
       state = excluded.state`

	// The clock is read in a query of its own, once for all rows.
	expireKeysSQL = `delete from idempotency_keys where ctid = any (array(
select ctid from idempotency_keys where stored_at <= (select clock_timestamp() - $1::interval) limit $2))`
)

// expireStep is how many keys are deleted in one statement, so that none holds its locks for long.
const expireStep = 5_000

// Snapshot is the state of a stream after one of its events, as its owner encoded it. It saves reading the events up to
// there, and may be missing, old, or of a past that was lost: whoever uses it checks that the event is in the log.
type Snapshot struct {
	StreamID uuid.UUID
	// Version, Position and EventID are those of the last event in State.
	Version, Position int64
	EventID           uuid.UUID
	// State is JSON.
	State []byte
}

// LoadSnapshots returns those snapshots of the streams that there are.
func (r reader) LoadSnapshots(ctx context.Context, streams []uuid.UUID) ([]Snapshot, error) {
	ids := make([][16]byte, len(streams))
	for i, id := range streams {
		ids[i] = id
	}
	rows, _ := r.db.Query(ctx, loadSnapshotsSQL, ids)
	snapshots, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one Snapshot, err error) {
		err = row.Scan(&one.StreamID, &one.Version, &one.Position, &one.EventID, &one.State)
		return one, err
	})
	return snapshots, r.wrap("load snapshots", err)
}

// SaveSnapshots keeps at most one snapshot a stream; no stream may occur twice.
func (r reader) SaveSnapshots(ctx context.Context, snapshots []Snapshot) error {
	n := len(snapshots)
	streams, versions, positions := make([][16]byte, n), make([]int64, n), make([]int64, n)
	events, states := make([][16]byte, n), make([][]byte, n)
	for i := range snapshots {
		streams[i], versions[i], positions[i] = snapshots[i].StreamID, snapshots[i].Version, snapshots[i].Position
		events[i], states[i] = snapshots[i].EventID, snapshots[i].State
	}
	if _, err := r.db.Exec(ctx, saveSnapshotsSQL, streams, versions, positions, events, states); err != nil {
		return fmt.Errorf("eventstore: save snapshots: %w", err)
	}
	return nil
}

// ExpireKeys deletes the idempotency keys that were stored longer ago than age, by the database's clock, and returns how
// many. It goes in small steps and can be stopped between any two.
func (r reader) ExpireKeys(ctx context.Context, age time.Duration) (int64, error) {
	var deleted int64
	for {
		tag, err := r.db.Exec(ctx, expireKeysSQL, fmt.Sprintf("%d microseconds", age.Microseconds()), expireStep)
		if err != nil {
			return deleted, fmt.Errorf("eventstore: expire keys: %w", err)
		}
		deleted += tag.RowsAffected()
		if tag.RowsAffected() < expireStep {
			return deleted, nil
		}
	}
}
