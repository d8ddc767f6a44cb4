package eventstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// unit makes a unit of events that are to continue a stream after a version.
func unit(stream uuid.UUID, after int64, events int) eventstore.Unit {
	var u eventstore.Unit
	for i := range events {
		u.Events = append(u.Events, eventstore.NewEvent{
			StreamID: stream, Version: after + int64(i) + 1, Follows: pgtest.EventID(stream, after+int64(i)),
			EventID: pgtest.EventID(stream, after+int64(i)+1), Type: "Happened", SchemaVersion: 1,
			Payload: fmt.Appendf(nil, `{"n": %d}`, i),
		})
	}
	return u
}

func key(b byte) [16]byte { return [16]byte{b} }

func mustAppend(t *testing.T, s *eventstore.Store, units ...eventstore.Unit) []eventstore.UnitResult {
	t.Helper()
	results, err := s.Append(t.Context(), units)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return results
}

func outcomes(results []eventstore.UnitResult) []eventstore.Outcome {
	var all []eventstore.Outcome
	for _, r := range results {
		all = append(all, r.Outcome)
	}
	return all
}

func TestAppendGivesPositionsInOrder(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a, b := uuid.New(), uuid.New()

	results := mustAppend(t, store, unit(a, 0, 2), unit(b, 0, 1), unit(a, 2, 1))
	for i, want := range []int64{1, 3, 4} {
		if results[i].Outcome != eventstore.Appended || results[i].First != want {
			t.Errorf("unit %d: %+v, want position %d", i, results[i], want)
		}
	}
	more := mustAppend(t, store, unit(b, 1, 1))
	if more[0].First != 5 || more[0].RecordedAt.Before(results[0].RecordedAt) {
		t.Errorf("the next batch got %+v after %+v", more[0], results[0])
	}
	events, err := store.ReadAfter(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		stream  uuid.UUID
		version int64
	}{{a, 1}, {a, 2}, {b, 1}, {a, 3}, {b, 2}}
	for i, e := range events {
		if e.Position != int64(i)+1 || e.StreamID != want[i].stream || e.Version != want[i].version {
			t.Errorf("event %d is %+v, want %+v", i, e, want[i])
		}
		if string(e.Metadata) != "{}" || e.Type != "Happened" || e.RecordedAt.Location() != time.UTC {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	if head, err := store.Head(t.Context()); err != nil || head != 5 {
		t.Errorf("head is %d, %v", head, err)
	}
}

func TestHeadOfAnEmptyLogIsZero(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	if head, err := store.Head(t.Context()); err != nil || head != 0 {
		t.Errorf("head is %d, %v", head, err)
	}
}

// TestAppendOutcomes runs batches against a log that holds stream A at version 2 and the key 1.
func TestAppendOutcomes(t *testing.T) {
	t.Parallel()
	a, b, c := uuid.New(), uuid.New(), uuid.New()
	keyed := func(u eventstore.Unit, k byte) eventstore.Unit {
		u.Keys = []eventstore.Key{{Hash: key(k), Fingerprint: key(k + 100), First: 0, Count: len(u.Events)}}
		return u
	}
	both := unit(a, 2, 1) // touches two streams, as a transfer does
	both.Events = append(both.Events, unit(b, 0, 1).Events...)
	// rival has the versions that the unit is to have, but other events.
	rival := func(u eventstore.Unit) eventstore.Unit {
		for i := range u.Events {
			u.Events[i].EventID = uuid.New()
		}
		return u
	}
	on := func(u, before eventstore.Unit) eventstore.Unit {
		u.Events = slices.Clone(u.Events)
		u.Events[0].Follows = before.Events[len(before.Events)-1].EventID
		return u
	}
	lost := rival(unit(a, 1, 1))
	elsewhere := rival(unit(a, 0, 2)) // as another instance wrote it
	nothing := unit(a, 2, 1)
	nothing.Events[0].Follows = uuid.Nil
	const ok, conflict, duplicate = eventstore.Appended, eventstore.Conflict, eventstore.Duplicate
	for name, test := range map[string]struct {
		units []eventstore.Unit
		want  []eventstore.Outcome
		first []int64
	}{
		"continues":                  {[]eventstore.Unit{unit(a, 2, 1)}, []eventstore.Outcome{ok}, []int64{3}},
		"behind":                     {[]eventstore.Unit{unit(a, 1, 1)}, []eventstore.Outcome{conflict}, []int64{0}},
		"ahead":                      {[]eventstore.Unit{unit(a, 3, 1)}, []eventstore.Outcome{conflict}, []int64{0}},
		"new stream not from one":    {[]eventstore.Unit{unit(b, 1, 1)}, []eventstore.Outcome{conflict}, []int64{0}},
		"key taken":                  {[]eventstore.Unit{keyed(unit(a, 2, 1), 1)}, []eventstore.Outcome{duplicate}, []int64{0}},
		"key taken and behind":       {[]eventstore.Unit{keyed(unit(a, 1, 1), 1)}, []eventstore.Outcome{duplicate}, []int64{0}},
		"a loser among winners":      {[]eventstore.Unit{unit(b, 0, 2), unit(a, 0, 1), unit(c, 0, 1)}, []eventstore.Outcome{ok, conflict, ok}, []int64{3, 0, 5}},
		"a duplicate among winners":  {[]eventstore.Unit{unit(b, 0, 1), keyed(unit(a, 2, 1), 1), keyed(unit(c, 0, 1), 2)}, []eventstore.Outcome{ok, duplicate, ok}, []int64{3, 0, 4}},
		"what follows a loser loses": {[]eventstore.Unit{lost, on(unit(a, 2, 1), lost), unit(b, 0, 1)}, []eventstore.Outcome{conflict, conflict, ok}, []int64{0, 0, 3}},
		"loses over two streams":     {[]eventstore.Unit{lost, on(both, lost), unit(b, 1, 1), unit(c, 0, 1)}, []eventstore.Outcome{conflict, conflict, conflict, ok}, []int64{0, 0, 0, 3}},
		"loses to a duplicate":       {[]eventstore.Unit{keyed(lost, 1), on(unit(a, 2, 1), lost)}, []eventstore.Outcome{duplicate, conflict}, []int64{0, 0}},
		"chained on a duplicate":     {[]eventstore.Unit{keyed(unit(a, 2, 1), 1), unit(a, 3, 1)}, []eventstore.Outcome{duplicate, conflict}, []int64{0, 0}},
		"two streams, both or none":  {[]eventstore.Unit{unit(b, 0, 1), both}, []eventstore.Outcome{ok, conflict}, []int64{3, 0}},
		"fits by its version alone":  {[]eventstore.Unit{on(unit(a, 2, 1), elsewhere)}, []eventstore.Outcome{conflict}, []int64{0}},
		"fits one of several":        {[]eventstore.Unit{unit(c, 0, 1), on(unit(a, 2, 1), elsewhere)}, []eventstore.Outcome{ok, conflict}, []int64{3, 0}},
		"follows on nothing":         {[]eventstore.Unit{nothing}, []eventstore.Outcome{conflict}, []int64{0}},
		"a unit twice":               {[]eventstore.Unit{unit(a, 2, 1), unit(a, 2, 1)}, []eventstore.Outcome{ok, conflict}, []int64{3, 0}},
		"a hole inside a unit":       {[]eventstore.Unit{{Events: []eventstore.NewEvent{unit(a, 2, 1).Events[0], unit(a, 4, 1).Events[0]}}}, []eventstore.Outcome{conflict}, []int64{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := eventstore.New(pgtest.New(t))
			mustAppend(t, store, keyed(unit(a, 0, 2), 1))
			results := mustAppend(t, store, test.units...)
			if got := outcomes(results); !slices.Equal(got, test.want) {
				t.Fatalf("outcomes %v, want %v", got, test.want)
			}
			for i, r := range results {
				if r.First != test.first[i] {
					t.Errorf("unit %d is at %d, want %d", i, r.First, test.first[i])
				}
			}
			checkLog(t, store)
		})
	}
}

func TestKeysAreStoredWithTheEventsTheyAnswerFor(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	u := unit(uuid.New(), 0, 3)
	u.Keys = []eventstore.Key{
		{Hash: key(1), Fingerprint: key(11), First: 0, Count: 1},
		{Hash: key(2), Fingerprint: key(12), First: 1, Count: 2},
	}
	mustAppend(t, store, unit(uuid.New(), 0, 4), u)
	slow := unit(uuid.New(), 0, 2)
	slow.Keys = []eventstore.Key{{Hash: key(3), Fingerprint: key(13), First: 1, Count: 1}}
	mustAppend(t, store, unit(uuid.New(), 7, 1), slow) // a conflict in the batch, so unit by unit

	stored, err := store.LookupKeys(t.Context(), [][16]byte{key(1), key(2), key(3), key(9)})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(stored, func(a, b eventstore.StoredKey) int { return int(a.First - b.First) })
	want := []eventstore.StoredKey{
		{Hash: key(1), Fingerprint: key(11), First: 5, Count: 1},
		{Hash: key(2), Fingerprint: key(12), First: 6, Count: 2},
		{Hash: key(3), Fingerprint: key(13), First: 9, Count: 1},
	}
	if !slices.Equal(stored, want) {
		t.Errorf("keys %+v, want %+v", stored, want)
	}
}

func TestReadStreams(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a, b := uuid.New(), uuid.New()
	mustAppend(t, store, unit(a, 0, 3), unit(b, 0, 2), unit(a, 3, 1))
	var got []string
	cursors := []eventstore.Cursor{{StreamID: a, After: 2}, {StreamID: uuid.New()}, {StreamID: b}}
	err := store.ReadStreams(t.Context(), cursors, func(e eventstore.Event) error {
		got = append(got, fmt.Sprintf("%v %d", e.StreamID == a, e.Version))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"true 3", "true 4", "false 1", "false 2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestPositionsAreCommitOrder attacks I1: many instances append batches of all sizes at once, some of which are
// killed in the middle, while readers tail the log. Whatever a reader has seen must be all there is up to that point.
func TestPositionsAreCommitOrder(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const writers, batches = 8, 60
	mustAppend(t, eventstore.New(newPool(t, url)), unit(uuid.New(), 0, 1000)) // append_one is not for a short log
	group, ctx := errgroup.WithContext(t.Context())
	var writing sync.WaitGroup
	for w := range writers {
		writing.Add(1)
		pool := newPool(t, url)
		group.Go(func() error {
			defer writing.Done()
			return writeSome(ctx, eventstore.New(pool), rand.New(rand.NewPCG(1, uint64(w))), batches)
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	for range 3 {
		store := eventstore.New(newPool(t, url))
		group.Go(func() error { return tail(ctx, store, done) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	checkLog(t, eventstore.New(newPool(t, url)))
}

// writeSome appends batches to streams of its own; every tenth call is cut off at a random moment, after which only
// the log can tell whether it took place.
func writeSome(ctx context.Context, store *eventstore.Store, random *rand.Rand, batches int) error {
	var past eventstore.Past
	for range batches {
		var units []eventstore.Unit
		for range 1 + random.IntN(5) {
			units = append(units, unit(uuid.New(), 0, 1+random.IntN(4)))
		}
		if random.IntN(3) == 0 { // for append_one
			units = []eventstore.Unit{unit(uuid.New(), 0, 1)}
		}
		callCtx, cancel := ctx, context.CancelFunc(func() {})
		cut := random.IntN(10) == 0
		if cut {
			callCtx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(3000))*time.Microsecond)
		}
		var err error
		if random.IntN(4) == 0 {
			_, err = store.Append(callCtx, units)
		} else {
			_, _, err = store.AppendAfter(callCtx, &past, units)
		}
		cancel()
		if err != nil && !cut {
			return err
		}
	}
	return nil
}

// tail reads the log as it grows and fails at the first event that is not the one after the last.
func tail(ctx context.Context, store *eventstore.Store, done <-chan struct{}) error {
	var position int64
	for {
		last := false
		select {
		case <-done:
			last = true
		default:
		}
		events, err := store.ReadAfter(ctx, position, 50)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Position != position+1 {
				return fmt.Errorf("position %d follows on %d: an event appeared behind the reader", e.Position, position)
			}
			position = e.Position
		}
		if last && len(events) == 0 {
			return nil
		}
	}
}

// checkLog asserts what every log must hold: positions 1..N, versions 1..n in each stream, a clock that only goes on.
func checkLog(t *testing.T, store *eventstore.Store) {
	t.Helper()
	events, err := store.ReadAfter(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	versions := make(map[uuid.UUID]int64)
	var before time.Time
	for i, e := range events {
		if e.Position != int64(i)+1 {
			t.Fatalf("event %d has position %d", i+1, e.Position)
		}
		if e.Version != versions[e.StreamID]+1 {
			t.Errorf("stream %s: version %d follows on %d", e.StreamID, e.Version, versions[e.StreamID])
		}
		versions[e.StreamID] = e.Version
		if e.RecordedAt.Before(before) {
			t.Errorf("position %d was recorded before the one ahead of it", e.Position)
		}
		before = e.RecordedAt
	}
}
