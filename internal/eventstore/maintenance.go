package eventstore

import (
	"context"
	"fmt"
	"time"
)

const (
	// The clock is read in a query of its own, once for all rows.
	expireKeysSQL = `delete from idempotency_keys where ctid = any (array(
select ctid from idempotency_keys where stored_at <= (select clock_timestamp() - $1::interval) limit $2))`
)

// expireStep is how many keys are deleted in one statement, so that none holds its locks for long.
const expireStep = 5_000

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
