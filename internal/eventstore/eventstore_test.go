package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
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

// happened returns events that continue a stream after a version.
func happened(stream uuid.UUID, after int64, events int) []eventstore.NewEvent {
	var all []eventstore.NewEvent
	for i := range events {
		version := after + int64(i) + 1
		all = append(all, eventstore.NewEvent{
			StreamID: stream, Version: version, EventID: pgtest.EventID(stream, version), Type: "Happened", SchemaVersion: 1,
			Payload: fmt.Appendf(nil, `{"n": %d}`, i),
		})
	}
	return all
}

func batch(events ...[]eventstore.NewEvent) *eventstore.Batch {
	return &eventstore.Batch{Events: slices.Concat(events...)}
}

func key(b byte) [16]byte { return [16]byte{b} }

// mustAppend appends events, even if others append too, and returns the position of the first.
func mustAppend(t *testing.T, s *eventstore.Store, events ...[]eventstore.NewEvent) int64 {
	t.Helper()
	first, _ := pgtest.Append(t, s, slices.Concat(events...)...)
	return first
}

func TestAppendAssignsPositionsInOrder(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a, b := uuid.New(), uuid.New()
	if head, err := store.Last(t.Context()); err != nil || head != (eventstore.Head{}) {
		t.Errorf("the head of an empty log is %+v, %v", head, err)
	}
	first, before := pgtest.Append(t, store, slices.Concat(happened(a, 0, 2), happened(b, 0, 1), happened(a, 2, 1))...)
	next, after := pgtest.Append(t, store, happened(b, 1, 1)...)
	if first != 1 || next != 5 || after.Before(before) {
		t.Errorf("positions %d and %d, recorded %s and %s", first, next, before, after)
	}
	events, err := store.Select(t.Context(), 0, 5, eventstore.Selection{}, 100)
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
	if head, err := store.Last(t.Context()); err != nil || head != (eventstore.Head{Position: 5, EventID: events[4].EventID}) {
		t.Errorf("head is %+v, %v", head, err)
	}
}

// TestAppend runs batches against a log that holds stream a at version 2 and the key 1, in autocommit and with the lock held.
func TestAppend(t *testing.T) {
	t.Parallel()
	a, b := uuid.New(), uuid.New()
	at := func(position int64, event uuid.UUID) eventstore.Head {
		return eventstore.Head{Position: position, EventID: event}
	}
	head := at(2, pgtest.EventID(a, 2))
	keyed := func(k byte, events []eventstore.NewEvent) *eventstore.Batch {
		return &eventstore.Batch{Events: events, Keys: []eventstore.Key{{Hash: key(k), Fingerprint: key(k + 100), Count: len(events)}}}
	}
	refusal := &eventstore.Batch{Keys: []eventstore.Key{{Hash: key(2), Fingerprint: key(102), Refusal: []byte("no")}}}
	for name, test := range map[string]struct {
		head  eventstore.Head
		batch *eventstore.Batch
		moved bool
		taken [][16]byte
	}{
		"on the head":                  {head: head, batch: batch(happened(a, 2, 1), happened(b, 0, 2))},
		"behind":                       {head: at(1, pgtest.EventID(a, 1)), batch: batch(happened(a, 2, 1)), moved: true},
		"ahead":                        {head: at(3, pgtest.EventID(a, 3)), batch: batch(happened(a, 3, 1)), moved: true},
		"before the log began":         {batch: batch(happened(b, 0, 1)), moved: true},
		"the position, another event":  {head: at(2, uuid.New()), batch: batch(happened(a, 2, 1)), moved: true},
		"the event, another position":  {head: at(1, pgtest.EventID(a, 2)), batch: batch(happened(a, 2, 1)), moved: true},
		"a new key":                    {head: head, batch: keyed(2, happened(a, 2, 1))},
		"a stored key":                 {head: head, batch: keyed(1, happened(a, 2, 1)), taken: [][16]byte{key(1)}},
		"a stored key, behind":         {head: at(1, pgtest.EventID(a, 1)), batch: keyed(1, happened(a, 2, 1)), moved: true},
		"a refusal":                    {head: head, batch: refusal},
		"a refusal, behind":            {head: at(1, pgtest.EventID(a, 1)), batch: refusal, moved: true},
		"nothing, confirmed":           {head: head, batch: &eventstore.Batch{}},
		"nothing, behind":              {head: at(1, pgtest.EventID(a, 1)), batch: &eventstore.Batch{}, moved: true},
		"nothing, of a log that began": {batch: &eventstore.Batch{}, moved: true},
	} {
		for _, locked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, locked), func(t *testing.T) {
				t.Parallel()
				store := eventstore.New(pgtest.New(t))
				if _, err := store.Append(t.Context(), eventstore.Head{}, keyed(1, happened(a, 0, 2))); err != nil {
					t.Fatal(err)
				}
				got, err := appendEither(t, store, locked, test.head, test.batch)
				if err != nil || got.Moved != test.moved || !slices.Equal(got.Taken, test.taken) {
					t.Fatalf("%+v, %v; want moved %v, taken %x", got, err, test.moved, test.taken)
				}
				written := !test.moved && test.taken == nil
				wantHead := int64(2)
				if written {
					wantHead += int64(len(test.batch.Events))
				}
				if head, err := store.Head(t.Context()); err != nil || head != wantHead {
					t.Errorf("the head is at %d, want %d (%v)", head, wantHead, err)
				}
				stored, err := store.LookupKeys(t.Context(), [][16]byte{key(2)})
				if wantKey := written && len(test.batch.Keys) == 1; err != nil || (len(stored) == 1) != wantKey {
					t.Errorf("stored keys %+v, %v", stored, err)
				}
				checkLog(t, store)
			})
		}
	}
}

func appendEither(t *testing.T, store *eventstore.Store, locked bool, head eventstore.Head, b *eventstore.Batch) (eventstore.Appended, error) {
	t.Helper()
	if !locked {
		return store.Append(t.Context(), head, b)
	}
	l, _, err := store.Lock(t.Context(), head.Position, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	return l.Append(t.Context(), head, b)
}

// TestFailedAppendLeavesNothing appends batches that only a bug could make: with a version that exists, with a gap in the versions
// of a stream, and with an impossible version.
func TestFailedAppendLeavesNothing(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a := uuid.New()
	mustAppend(t, store, happened(a, 0, 2))
	head, err := store.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, events := range [][]eventstore.NewEvent{
		happened(a, 1, 1),
		slices.Concat(happened(a, 2, 1), happened(a, 8, 1)),
		slices.Concat(happened(a, 2, 2), happened(a, 2, 1)),
		slices.Concat(happened(a, 3, 1), happened(a, 2, 1)),
		happened(uuid.New(), -1, 1),
	} {
		locked := i%2 == 1
		bad := batch(happened(uuid.New(), 0, 1), events)
		bad.Keys = []eventstore.Key{{Hash: key(1), Fingerprint: key(1), Count: 1}}
		if _, err := appendEither(t, store, locked, head, bad); err == nil {
			t.Fatalf("version %d was appended", events[len(events)-1].Version)
		}
		if stored, err := store.LookupKeys(t.Context(), [][16]byte{key(1)}); err != nil || len(stored) > 0 {
			t.Errorf("its key was stored: %+v, %v", stored, err)
		}
	}
	if first := mustAppend(t, store, happened(a, 2, 1)); first != 3 {
		t.Errorf("the next event is at %d: the failed append left a gap", first)
	}
	checkLog(t, store)
}

func TestKeysAreStoredWithTheirEvents(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	mustAppend(t, store, happened(uuid.New(), 0, 4))
	head, err := store.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := batch(happened(uuid.New(), 0, 3))
	b.Keys = []eventstore.Key{
		{Hash: key(1), Fingerprint: key(11), First: 0, Count: 1},
		{Hash: key(2), Fingerprint: key(12), Refusal: []byte(`{"refused":"\u0000"}`)},
		{Hash: key(3), Fingerprint: key(13), First: 1, Count: 2},
	}
	if result, err := store.Append(t.Context(), head, b); err != nil || result.Moved {
		t.Fatalf("%+v, %v", result, err)
	}
	stored, err := store.LookupKeys(t.Context(), [][16]byte{key(1), key(2), key(3), key(9)})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(stored, func(a, b eventstore.StoredKey) int { return int(a.Hash[0]) - int(b.Hash[0]) })
	for i, events := range [][]int64{{5}, nil, {6, 7}} {
		if got := positions(stored[i].Events); !slices.Equal(got, events) {
			t.Errorf("key %d has the events %v, want %v", i, got, events)
		}
		stored[i].Events = nil
	}
	want := []eventstore.StoredKey{
		{Hash: key(1), Fingerprint: key(11), First: 5, Count: 1},
		{Hash: key(2), Fingerprint: key(12), First: 4, Refusal: []byte(`{"refused":"\u0000"}`)},
		{Hash: key(3), Fingerprint: key(13), First: 6, Count: 2},
	}
	if !reflect.DeepEqual(stored, want) {
		t.Errorf("keys %+v, want %+v", stored, want)
	}
}

// TestReadStreams reads several streams, one of which has snapshots that match and others that do not.
func TestReadStreams(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a, b := uuid.New(), uuid.New()
	names := map[uuid.UUID]string{a: "a", b: "b"}
	ofA := happened(a, 0, 5)
	ofA[1].Metadata, ofA[2].Metadata = []byte(`{"is": {"a": 2, "of": 1}}`), []byte(`{"is": {"a": 3, "of": 2}}`)
	ofA[3].Metadata = []byte(`{"is": {"a": 4, "of": 1}}`)
	mustAppend(t, store, ofA[:3], happened(b, 0, 2), ofA[3:4], happened(b, 2, 1), ofA[4:])
	for upTo, want := range map[int64][]string{
		8: {`a4 {"is": {"a": 4, "of": 1}}`, "a5 ", "b1 {}", "b2 ", "b3 "},
		6: {`a4 {"is": {"a": 4, "of": 1}}`, "b1 {}", "b2 "},
		5: {`a2 {"is": {"a": 2, "of": 1}}`, "a3 ", "b1 {}", "b2 "},
		1: {"a1 {}"},
		0: nil,
	} {
		var got []string
		streams := [][16]byte{a, uuid.New(), b}
		err := store.ReadStreams(t.Context(), streams, upTo, `{"is": {"of": 1}}`, func(e *eventstore.Event) error {
			got = append(got, fmt.Sprintf("%s%d %s", names[e.StreamID], e.Version, e.Metadata))
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("up to %d: got %v, want %v (%v)", upTo, got, want, err)
		}
	}
}

// TestReadAfter reads after positions in and beyond the log, with and without the lock held.
func TestReadAfter(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a := uuid.New()
	mustAppend(t, store, happened(a, 0, 5))
	for position, want := range map[int64][]int64{-1: {1, 2, 3}, 0: {1, 2, 3}, 3: {4, 5}, 4: {5}, 5: nil, 9: nil} {
		events, err := store.ReadAfter(t.Context(), position, 3)
		if got := positions(events); err != nil || !slices.Equal(got, want) {
			t.Errorf("after %d: %v, want %v (%v)", position, got, want, err)
		}
		locked, events, err := store.Lock(t.Context(), position, 3)
		if err != nil {
			t.Fatal(err)
		}
		if got := positions(events); !slices.Equal(got, want) {
			t.Errorf("locked, after %d: %v, want %v", position, got, want)
		}
		locked.Release()
	}
}

func positions(events []eventstore.Event) (all []int64) {
	for i := range events {
		all = append(all, events[i].Position)
	}
	return all
}

// TestPositionsAreCommitOrder attacks I1: many instances append batches of all sizes concurrently, some are killed during an
// append, and readers tail the log. A reader must have seen every event up to its last position.
func TestPositionsAreCommitOrder(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const writers, batches = 8, 60
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

// writeSome appends batches to streams of its own, with and without the lock; every tenth call is cut off at a random moment, and
// only the log can then tell whether it was appended.
func writeSome(ctx context.Context, store *eventstore.Store, random *rand.Rand, batches int) error {
	for range batches {
		b := new(eventstore.Batch)
		for range 1 + random.IntN(5) {
			b.Events = append(b.Events, happened(uuid.New(), 0, 1+random.IntN(4))...)
		}
		callCtx, cancel := ctx, context.CancelFunc(func() {})
		cut := random.IntN(10) == 0
		if cut {
			callCtx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(3000))*time.Microsecond)
		}
		err := writeOne(callCtx, store, b, random.IntN(3) == 0)
		cancel()
		if err != nil && !cut {
			return err
		}
	}
	return nil
}

func writeOne(ctx context.Context, store *eventstore.Store, b *eventstore.Batch, lockFirst bool) error {
	if lockFirst {
		locked, _, err := store.Lock(ctx, 0, 0)
		if err != nil {
			return err
		}
		defer locked.Release()
		head, err := locked.Last(ctx)
		if err != nil {
			return err
		}
		result, err := locked.Append(ctx, head, b)
		if err == nil && result.Moved {
			return errors.New("the log moved under the lock")
		}
		return err
	}
	for {
		head, err := store.Last(ctx)
		if err != nil {
			return err
		}
		if result, err := store.Append(ctx, head, b); err != nil || !result.Moved {
			return err
		}
	}
}

// tail reads the log as it grows and fails at the first event that does not have the next position.
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

// checkLog asserts what is true of every log: positions 1..N, versions 1..n in each stream, times that never decrease.
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
			t.Errorf("position %d was recorded before the previous one", e.Position)
		}
		before = e.RecordedAt
	}
}
