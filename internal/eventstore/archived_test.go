package eventstore_test

import (
	"errors"
	"math"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestReadsOfArchivedEvents reads a log whose first events are in the archive: reads of a range that they belong to are refused, also
// where the log has kept some of them.
func TestReadsOfArchivedEvents(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	stream := uuid.New()
	for _, sql := range []string{
		`insert into events select g, '` + stream.String() + `', g, gen_random_uuid(), 'MoneyDeposited', 1, '{}', '{}', timestamptz '2026-01-01Z' + g * interval '1 hour'
from generate_series(1, 9) g where g in (1, 4) or g > 4`,
		`update log_begin set first_position = 5`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if first, err := store.Begin(t.Context()); err != nil || first != 5 {
		t.Errorf("begin: %d, %v", first, err)
	}
	for _, read := range []struct {
		name string
		from func(after int64) ([]eventstore.Event, error)
	}{
		{"ReadAfter", func(after int64) ([]eventstore.Event, error) { return store.ReadAfter(t.Context(), after, 3) }},
		{"Select", func(after int64) ([]eventstore.Event, error) {
			return store.Select(t.Context(), after, math.MaxInt64, eventstore.Selection{}, 3)
		}},
		{"Select a type", func(after int64) ([]eventstore.Event, error) {
			return store.Select(t.Context(), after, math.MaxInt64, eventstore.Selection{Types: []string{"MoneyDeposited"}}, 3)
		}},
		{"Select a stream", func(after int64) ([]eventstore.Event, error) {
			return store.Select(t.Context(), after, math.MaxInt64, eventstore.Selection{StreamID: stream}, 3)
		}},
		{"Lock", func(after int64) ([]eventstore.Event, error) {
			locked, events, err := store.Lock(t.Context(), after, 3)
			if err == nil {
				locked.Release()
			}
			return events, err
		}},
	} {
		for after, want := range map[int64]int64{0: 0, 3: 0, 4: 5, 7: 8} {
			events, err := read.from(after)
			archived, refused := errors.AsType[*eventstore.ArchivedError](err)
			switch {
			case want == 0 && (!refused || archived.First != 5):
				t.Errorf("%s after %d: %d events, %v", read.name, after, len(events), err)
			case want > 0 && (err != nil || len(events) == 0 || events[0].Position != want):
				t.Errorf("%s after %d: %v, %v", read.name, after, events, err)
			}
		}
	}
	for moment, want := range map[string]int64{"2026-01-01T05:00Z": 5, "2026-01-01T06:30Z": 6, "2026-01-02Z": 9} {
		var position int64
		if err := pool.QueryRow(t.Context(), `select position_at($1)`, moment).Scan(&position); err != nil || position != want {
			t.Errorf("position at %s: %d, %v", moment, position, err)
		}
	}
	if _, err := pool.Exec(t.Context(), `select position_at('2026-01-01T04:30Z')`); err == nil {
		t.Error("the position at a moment before the first event that the log has")
	}
}
