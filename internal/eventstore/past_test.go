package eventstore_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestAppendAfter has the log conflict with a batch, and lose what it was decided on, in every way in which it can.
func TestAppendAfter(t *testing.T) {
	t.Parallel()
	const ok, conflict, duplicate = eventstore.Appended, eventstore.Conflict, eventstore.Duplicate
	a, b := uuid.New(), uuid.New()
	keyed := unit(b, 0, 1)
	keyed.Keys = []eventstore.Key{{Hash: key(1), Fingerprint: key(2), First: 0, Count: 1}}
	taken := unit(uuid.New(), 0, 1)
	taken.Keys = keyed.Keys
	other := unit(a, 1, 1)
	other.Events[0].EventID = uuid.New()
	for name, test := range map[string]struct {
		// Between what was seen, which is a at version 2 and position 2, and the append, the log loses its end from position
		// loses on, if that is not 0, and goes on with the units of then.
		loses int64
		then  []eventstore.Unit
		units []eventstore.Unit
		want  []eventstore.Outcome
		lost  bool
		marks int
	}{
		"nothing happened": {
			units: []eventstore.Unit{unit(a, 2, 2), unit(b, 0, 1), unit(a, 4, 1)}, want: []eventstore.Outcome{ok, ok, ok}, marks: 1,
		},
		"the log went on": {
			then:  []eventstore.Unit{unit(uuid.New(), 0, 3)},
			units: []eventstore.Unit{unit(a, 2, 1)}, want: []eventstore.Outcome{ok}, marks: 1,
		},
		"the stream went on": {
			then:  []eventstore.Unit{unit(a, 2, 1)},
			units: []eventstore.Unit{unit(b, 0, 1), unit(a, 2, 1)}, want: []eventstore.Outcome{ok, conflict}, marks: 2,
		},
		"a key was taken": {
			then:  []eventstore.Unit{taken},
			units: []eventstore.Unit{keyed, unit(a, 2, 1)}, want: []eventstore.Outcome{duplicate, ok}, marks: 2,
		},
		"the end is gone": {
			loses: 2,
			units: []eventstore.Unit{unit(a, 2, 1), unit(b, 0, 1)}, want: []eventstore.Outcome{conflict, ok}, lost: true, marks: 1,
		},
		"the end is gone, for all of the batch": {
			loses: 2,
			units: []eventstore.Unit{unit(a, 2, 1)}, want: []eventstore.Outcome{conflict}, lost: true, marks: 0,
		},
		"another end is in its place": {
			loses: 2, then: []eventstore.Unit{other, unit(uuid.New(), 0, 1)},
			units: []eventstore.Unit{unit(a, 2, 1), unit(b, 0, 1)}, want: []eventstore.Outcome{conflict, ok}, lost: true, marks: 1,
		},
		"all is gone": {
			loses: 1,
			units: []eventstore.Unit{unit(a, 2, 1), unit(b, 0, 1)}, want: []eventstore.Outcome{conflict, ok}, lost: true, marks: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			store := eventstore.New(pool)
			first := mustAppend(t, store, unit(a, 0, 2))
			var past eventstore.Past
			past.Saw(first[0].First+1, unit(a, 0, 2).Events[1].EventID)
			for _, table := range []string{"events where position", "idempotency_keys where first_position"} {
				if _, err := pool.Exec(t.Context(), "delete from "+table+" >= $1 and $1 > 0", test.loses); err != nil {
					t.Fatal(err)
				}
			}
			if len(test.then) > 0 {
				mustAppend(t, store, test.then...)
			}
			head, err := store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			results, lost, err := store.AppendAfter(t.Context(), &past, test.units)
			if err != nil {
				t.Fatal(err)
			}
			if got := outcomes(results); !slices.Equal(got, test.want) || lost != test.lost || past.Marks() != test.marks {
				t.Errorf("outcomes %v, lost %v, %d marks; want %v, %v, %d", got, lost, past.Marks(), test.want, test.lost, test.marks)
			}
			for i, r := range results {
				if r.Outcome == ok && r.First != head+1 {
					t.Errorf("unit %d is at %d, want %d", i, r.First, head+1)
				}
				if r.Outcome == ok {
					head += int64(len(test.units[i].Events))
				}
			}
			held, err := store.Confirm(t.Context(), &past)
			if err != nil || !held || past.Marks() > 1 {
				t.Errorf("afterwards: held %v, %d marks, %v", held, past.Marks(), err)
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	store := eventstore.New(pool)
	stream := uuid.New()
	events := unit(stream, 0, 3)
	mustAppend(t, store, events)
	var past eventstore.Past
	for _, i := range []int{2, 0, 1, 0} {
		past.Saw(int64(i)+1, events.Events[i].EventID)
	}
	if past.Marks() != 3 {
		t.Fatalf("%d marks of three events", past.Marks())
	}
	if held, err := store.Confirm(t.Context(), &past); err != nil || !held || past.Marks() != 1 {
		t.Errorf("held %v, %d marks, %v", held, past.Marks(), err)
	}
	past.Saw(2, events.Events[1].EventID)
	if _, err := pool.Exec(t.Context(), "delete from events where position = 3"); err != nil {
		t.Fatal(err)
	}
	// The mark that was kept is the last one: the others would still be there.
	if held, err := store.Confirm(t.Context(), &past); err != nil || held || past.Marks() != 0 {
		t.Errorf("after a loss: held %v, %d marks, %v", held, past.Marks(), err)
	}
}
