package eventstore_test

import (
	"testing"
	"time"

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
