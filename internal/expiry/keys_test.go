package expiry_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/expiry"
	"passbook/internal/pgtest"
)

// TestExpireKeys deletes the old keys, in more than one step, and no others: neither a fresh key of an old event nor a fresh
// refusal when the log's last event is old.
func TestExpireKeys(t *testing.T) {
	t.Parallel()
	pool := newPool(t, pgtest.URL(t), "keys")
	store := eventstore.New(pool)
	_, err := pool.Exec(t.Context(), `insert into idempotency_keys
select gen_random_uuid(), gen_random_uuid(), n, now() - interval '30 hours', 1, null from generate_series(1, 12000) n`)
	if err != nil {
		t.Fatal(err)
	}
	fresh := &eventstore.Batch{
		Events: []eventstore.NewEvent{{StreamID: uuid.New(), Version: 1, EventID: uuid.New(), Type: "Happened", SchemaVersion: 1, Payload: []byte("{}")}},
		Keys:   []eventstore.Key{{Hash: [16]byte{1}, Count: 1}, {Hash: [16]byte{2}, Refusal: []byte("no")}},
	}
	if _, err := store.Append(t.Context(), eventstore.Head{}, fresh); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		keep time.Duration
		want int64
	}{{31 * time.Hour, 0}, {24 * time.Hour, 12000}} {
		w := expiry.New(expiry.Config{Pool: pool, KeepKeys: step.keep, Logger: slog.New(slog.DiscardHandler)})
		if n, err := w.ExpireKeys(t.Context()); err != nil || n != step.want {
			t.Errorf("%d keys older than %s were deleted, want %d (%v)", n, step.keep, step.want, err)
		}
	}
	if kept, err := store.LookupKeys(t.Context(), [][16]byte{{1}, {2}}); err != nil || len(kept) != 2 {
		t.Errorf("the fresh keys: %v, %v", kept, err)
	}
}
