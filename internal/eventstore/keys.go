package eventstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// The message makes the statement a write, so that its commit waits until a synchronous standby has it and, because the WAL
	// is ordered, everything committed before it: see LookupKeys.
	lookupKeysSQL = `select key, fingerprint, first_position, event_count, refusal, pg_logical_emit_message(true, 'passbook', '')
from idempotency_keys where key = any ($1)`

	readAtSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where position = any ($1) order by position`

	// The subquery reads the clock once for all rows.
	expireKeysSQL = `delete from idempotency_keys where ctid = any (array(
select ctid from idempotency_keys where stored_at <= (select clock_timestamp() - $1::interval) limit $2))`
)

// LookupKeys returns those of the idempotency keys that are stored, with their events as far as the log has them, once they are
// as durable as an acknowledged append. A key can be visible before that: if an append is cancelled while it waits for a
// synchronous standby (by its time limit, say; its outcome is then unknown), PostgreSQL commits it on the primary alone, and a
// failover would lose it. Replaying its answer would acknowledge what can still be lost.
func (s *Store) LookupKeys(ctx context.Context, hashes [][16]byte) ([]StoredKey, error) {
	var positions []int64
	rows, _ := s.db.Query(ctx, lookupKeysSQL, hashes)
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k StoredKey, err error) {
		err = row.Scan(&k.Hash, &k.Fingerprint, &k.First, &k.Count, &k.Refusal, nil)
		for i := range int64(k.Count) {
			positions = append(positions, k.First+i)
		}
		return k, err
	})
	if err != nil || len(positions) == 0 {
		return keys, s.wrap("look up keys", err)
	}
	events, err := s.events(ctx, len(positions), readAtSQL, positions)
	for i := range keys {
		after := keys[i].First + int64(keys[i].Count)
		for j := range events {
			if p := events[j].Position; p >= keys[i].First && p < after {
				keys[i].Events = append(keys[i].Events, events[j])
			}
		}
	}
	return keys, err
}

// expireStep is how many keys one statement deletes at most, so that it does not hold its locks for long.
const expireStep = 5_000

// ExpireKeys deletes the idempotency keys that were stored longer than age ago, by the database's clock, and returns how many it
// deleted. It works in small steps, so it can be cancelled at any time.
func (s *Store) ExpireKeys(ctx context.Context, age time.Duration) (deleted int64, err error) {
	for {
		tag, err := s.pool.Exec(ctx, expireKeysSQL, age, expireStep)
		deleted += tag.RowsAffected()
		if err != nil || tag.RowsAffected() < expireStep {
			return deleted, s.wrap("expire keys", err)
		}
	}
}
