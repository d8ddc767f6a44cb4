package eventstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestPositionAt queries the position at times before, at, between and after the events of a log.
func TestPositionAt(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(minutes int) int64 {
		t.Helper()
		var position int64
		err := pool.QueryRow(t.Context(), "select position_at($1)", start.Add(time.Duration(minutes)*time.Minute)).Scan(&position)
		if err != nil {
			t.Fatal(err)
		}
		return position
	}
	if got := at(0); got != 0 {
		t.Errorf("in an empty log: %d", got)
	}
	// Positions 1, 2, 3 ... at minutes 0, 0, 10, 10, 20, 20 ...
	const events = 101
	_, err := pool.Exec(t.Context(), `insert into events select n, gen_random_uuid(), 1, gen_random_uuid(), 'Happened', 1, '{}', '{}',
		$1::timestamptz + ((n - 1) / 2 * 10) * interval '1 minute' from generate_series(1, $2::int) n`, start, events)
	if err != nil {
		t.Fatal(err)
	}
	for minute := -5; minute <= 520; minute += 5 {
		want := int64(0)
		if minute >= 0 {
			want = min(int64(minute/10)*2+2, events)
		}
		if got := at(minute); got != want {
			t.Errorf("minute %d: position %d, want %d", minute, got, want)
		}
	}
}

// TestExpireKeys deletes the old keys, in more than one step, and no others: neither a fresh key of an old event nor a fresh
// refusal when the log's last event is old.
func TestExpireKeys(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	_, err := pool.Exec(t.Context(), `insert into idempotency_keys
select gen_random_uuid(), gen_random_uuid(), n, now() - interval '30 hours', 1, null from generate_series(1, 12000) n`)
	if err != nil {
		t.Fatal(err)
	}
	fresh := batch(happened(uuid.New(), 0, 1))
	fresh.Keys = []eventstore.Key{
		{Hash: key(1), Fingerprint: key(2), Count: 1},
		{Hash: key(2), Fingerprint: key(2), Refusal: []byte("no")},
	}
	if _, err := store.Append(t.Context(), eventstore.Head{}, fresh); err != nil {
		t.Fatal(err)
	}
	if n, err := store.ExpireKeys(t.Context(), 31*time.Hour); err != nil || n != 0 {
		t.Errorf("%d keys of the last 31 hours were expired (%v)", n, err)
	}
	if n, err := store.ExpireKeys(t.Context(), 24*time.Hour); err != nil || n != 12000 {
		t.Errorf("%d keys were expired, want 12000 (%v)", n, err)
	}
	if kept, err := store.LookupKeys(t.Context(), [][16]byte{key(1), key(2)}); err != nil || len(kept) != 2 {
		t.Errorf("the fresh keys: %v, %v", kept, err)
	}
}
