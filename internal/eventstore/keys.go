package eventstore

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const (
	// The message makes the statement a write, so that its commit waits until a synchronous standby has it and, because the WAL
	// is ordered, everything committed before it: see LookupKeys.
	lookupKeysSQL = `select key, fingerprint, first_position, event_count, refusal, pg_logical_emit_message(true, 'passbook', '')
from idempotency_keys where key = any ($1)`

	readAtSQL = `select position, stream_id, version, event_id, type, schema_version, payload, recorded_at
from events where position = any ($1) order by position`
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
