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
	ids     []uuid.UUID
	streams map[uuid.UUID]tip
	keys    map[[16]byte]int64 // the position of the first event they answer for
	head    int64
}

// tip is the last event of a stream.
type tip struct {
	version int64
	id      uuid.UUID
}

// append says what becomes of a batch, unit by unit.
func (m *logModel) append(units []eventstore.Unit) (want []eventstore.UnitResult) {
	for _, u := range units {
		r := eventstore.UnitResult{Outcome: eventstore.Appended, First: m.head + 1}
		next := make(map[uuid.UUID]tip)
		for _, e := range u.Events {
			before, seen := next[e.StreamID]
			if !seen {
				before = m.streams[e.StreamID]
			}
			if e.Version != before.version+1 || e.Follows != before.id {
				r = eventstore.UnitResult{Outcome: eventstore.Conflict}
			}
			next[e.StreamID] = tip{before.version + 1, e.EventID}
		}
		for _, k := range u.Keys {
			if m.keys[k.Hash] > 0 {
				r = eventstore.UnitResult{Outcome: eventstore.Duplicate}
			}
		}
		for _, e := range u.Events {
			if r.Outcome == eventstore.Appended {
				m.head, m.streams[e.StreamID] = m.head+1, tip{e.Version, e.EventID}
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
	view := make(map[uuid.UUID]tip)
	for _, id := range m.ids {
		at := m.streams[id]
		switch off := rapid.SampledFrom([]int64{0, 0, 0, 0, 0, -1, 1, 2}).Draw(t, "off"); {
		case off == 2 && at.version > 0:
			at.id = uuid.New() // the version is right, but another event was there when it was decided
		case off < 2 && at.version+off > 0 && off != 0:
			at = tip{at.version + off, uuid.New()}
		}
		view[id] = at
	}
	used := make(map[[16]byte]bool)
	for range rapid.IntRange(1, 6).Draw(t, "units") {
		var u eventstore.Unit
		for range rapid.IntRange(1, 2).Draw(t, "streams") {
			id := rapid.SampledFrom(m.ids).Draw(t, "stream")
			more := unit(id, view[id].version, rapid.IntRange(1, 3).Draw(t, "events"))
			for i := range more.Events {
				e := &more.Events[i]
				e.Follows, e.EventID = view[id].id, uuid.New()
				view[id] = tip{e.Version, e.EventID}
			}
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
		m := &logModel{streams: make(map[uuid.UUID]tip), keys: make(map[[16]byte]int64)}
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
