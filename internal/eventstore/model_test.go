package eventstore_test

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// logModel is a log as simply as it can be said.
type logModel struct {
	ids      []uuid.UUID
	versions map[uuid.UUID]int64
	keys     map[[16]byte]int64 // the position of the first event they answer for
	head     int64
}

// append says what becomes of a batch, unit by unit.
func (m *logModel) append(units []eventstore.Unit) (want []eventstore.UnitResult) {
	lost := make(map[uuid.UUID]bool)
	for _, u := range units {
		r := eventstore.UnitResult{Outcome: eventstore.Appended, First: m.head + 1}
		next := make(map[uuid.UUID]int64)
		for _, e := range u.Events {
			if next[e.StreamID] == 0 {
				next[e.StreamID] = m.versions[e.StreamID]
			}
			if next[e.StreamID]++; e.Version != next[e.StreamID] || lost[e.StreamID] {
				r = eventstore.UnitResult{Outcome: eventstore.Conflict}
			}
		}
		for _, k := range u.Keys {
			if m.keys[k.Hash] > 0 {
				r = eventstore.UnitResult{Outcome: eventstore.Duplicate}
			}
		}
		for _, e := range u.Events {
			if r.Outcome == eventstore.Appended {
				m.head, m.versions[e.StreamID] = m.head+1, e.Version
			} else {
				lost[e.StreamID] = true
			}
		}
		if r.Outcome == eventstore.Appended {
			for _, k := range u.Keys {
				m.keys[k.Hash] = r.First + int64(k.First)
			}
		}
		want = append(want, r)
	}
	return want
}

// draw makes a batch as a writer does whose view of some streams is behind the log, or ahead of it: each unit goes on
// where the ones before it would leave its streams.
func (m *logModel) draw(t *rapid.T) (units []eventstore.Unit) {
	view := make(map[uuid.UUID]int64)
	for _, id := range m.ids {
		view[id] = max(0, m.versions[id]+rapid.SampledFrom([]int64{0, 0, 0, 0, 0, -1, 1}).Draw(t, "off"))
	}
	used := make(map[[16]byte]bool)
	for range rapid.IntRange(1, 6).Draw(t, "units") {
		var u eventstore.Unit
		for range rapid.IntRange(1, 2).Draw(t, "streams") {
			id := rapid.SampledFrom(m.ids).Draw(t, "stream")
			more := unit(id, view[id], rapid.IntRange(1, 3).Draw(t, "events"))
			view[id] += int64(len(more.Events))
			u.Events = append(u.Events, more.Events...)
		}
		k := key(rapid.Byte().Draw(t, "key"))
		if rapid.Bool().Draw(t, "keyed") && !used[k] {
			used[k] = true
			first := rapid.IntRange(0, len(u.Events)-1).Draw(t, "first")
			u.Keys = []eventstore.Key{{Hash: k, Fingerprint: k, First: first, Count: len(u.Events) - first}}
		}
		units = append(units, u)
	}
	return units
}

// TestLogAgainstAModel appends random batches, some decided on a stale view and some a second time, by two stores in turn:
// each unit becomes what the model says, at the position that it says, and the keys answer for the events they came with.
func TestLogAgainstAModel(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	stores := []*eventstore.Store{eventstore.New(pool), eventstore.New(newPool(t, url))}
	rapid.Check(t, func(r *rapid.T) {
		if _, err := pool.Exec(t.Context(), `truncate events, idempotency_keys`); err != nil {
			r.Fatal(err)
		}
		m := &logModel{versions: make(map[uuid.UUID]int64), keys: make(map[[16]byte]int64)}
		for range 4 {
			m.ids = append(m.ids, uuid.New())
		}
		var past [][]eventstore.Unit
		for range rapid.IntRange(1, 12).Draw(r, "batches") {
			units := m.draw(r)
			if len(past) > 0 && rapid.IntRange(0, 4).Draw(r, "again") == 0 {
				units = rapid.SampledFrom(past).Draw(r, "past")
			}
			past = append(past, units)
			got, err := rapid.SampledFrom(stores).Draw(r, "store").Append(t.Context(), units)
			if err != nil {
				r.Fatal(err)
			}
			for i, want := range m.append(units) {
				if got[i].Outcome != want.Outcome || got[i].First != want.First {
					r.Fatalf("unit %d of %+v is %+v, want %+v", i, units, got[i], want)
				}
			}
		}
		var all [][16]byte
		for k := range m.keys {
			all = append(all, k)
		}
		stored, err := stores[0].LookupKeys(t.Context(), all)
		if err != nil || len(stored) != len(all) {
			r.Fatalf("%d of %d keys, %v", len(stored), len(all), err)
		}
		for _, k := range stored {
			if k.First != m.keys[k.Hash] {
				r.Fatalf("key %x answers for position %d, want %d", k.Hash, k.First, m.keys[k.Hash])
			}
		}
		checkLog(t, stores[0])
	})
}
