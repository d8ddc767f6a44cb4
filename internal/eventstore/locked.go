package eventstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// A session that falls silent with the lock is ended before the others give up waiting for it.
	beginLocked = `begin isolation level read committed; set local lock_timeout = '5s'; set local idle_in_transaction_session_timeout = '2s'`
	lockSQL     = `select pg_advisory_xact_lock(7018230141)`
)

// Locked calls do with a Store whose calls are one transaction under the append lock: what do reads is the end of the log
// until it has appended. That is committed when do returns nil; only then is anything durable. All other appends wait
// meanwhile, for several round trips, so it is for those that would lose against them for ever. After an error it is not
// known whether anything was appended. The Store is good until do returns, and for one goroutine.
func (s *Store) Locked(ctx context.Context, do func(*Store) error) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{BeginQuery: beginLocked}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockSQL); err != nil {
			return err //nolint:wrapcheck // below
		}
		return do(&Store{pool: s.pool, db: tx})
	})
	if err != nil {
		return fmt.Errorf("eventstore: under the append lock: %w", s.suspect(err))
	}
	return nil
}

// isLocked tells whether the store is that of Locked.
func (s *Store) isLocked() bool { return s.db != querier(s.pool) }
