package eventstore_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// logModel is a log in its simplest form.
type logModel struct {
	events   []uuid.UUID
	versions map[uuid.UUID]int64
	keys     map[[16]byte]eventstore.StoredKey
}

func (m *logModel) head() eventstore.Head {
	if n := len(m.events); n > 0 {
		return eventstore.Head{Position: int64(n), EventID: m.events[n-1]}
	}
	return eventstore.Head{}
}

// append returns the outcome that an append of the batch should have, and applies it.
func (m *logModel) append(head eventstore.Head, b *eventstore.Batch) (want eventstore.Appended) {
	if head != m.head() {
		return eventstore.Appended{Moved: true}
	}
	for _, k := range b.Keys {
		if _, stored := m.keys[k.Hash]; stored {
			want.Taken = append(want.Taken, k.Hash)
		}
	}
	if want.Taken != nil {
		return want
	}
	for _, k := range b.Keys {
		stored := eventstore.StoredKey{Hash: k.Hash, Fingerprint: k.Fingerprint, First: head.Position, Refusal: k.Refusal}
		if k.Refusal == nil {
			stored.First, stored.Count = head.Position+1+int64(k.First), k.Count
		}
		m.keys[k.Hash] = stored
	}
	for _, e := range b.Events {
		m.events = append(m.events, e.EventID)
		m.versions[e.StreamID] = e.Version
	}
	return want
}

// draw makes a batch of events that continue their streams, with keys for some of them and for refusals.
func (m *logModel) draw(t *rapid.T, streams []uuid.UUID) *eventstore.Batch {
	b := new(eventstore.Batch)
	next := make(map[uuid.UUID]int64)
	used := make(map[[16]byte]bool)
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		id := rapid.SampledFrom(streams).Draw(t, "stream")
		if next[id] == 0 {
			next[id] = m.versions[id]
		}
		e := happened(id, next[id], 1)[0]
		e.EventID = uuid.New()
		next[id] = e.Version
		b.Events = append(b.Events, e)
		k := key(rapid.Byte().Draw(t, "key"))
		if used[k] {
			continue
		}
		switch rapid.IntRange(0, 3).Draw(t, "keyed") {
		case 0:
			first := rapid.IntRange(0, len(b.Events)-1).Draw(t, "first")
			b.Keys = append(b.Keys, eventstore.Key{Hash: k, Fingerprint: k, First: first, Count: len(b.Events) - first})
		case 1:
			b.Keys = append(b.Keys, eventstore.Key{Hash: k, Fingerprint: k, Refusal: []byte{k[0], 0, 1}})
		}
		used[k] = true
	}
	return b
}

// TestLogAgainstModel appends random batches with two stores in turn: on the head, on earlier heads, on heads that never existed,
// and after the log has lost its tail. Each outcome must be the model's, and each key must have the events it was stored with.
func TestLogAgainstModel(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	stores := []*eventstore.Store{eventstore.New(pool), eventstore.New(newPool(t, url))}
	rapid.Check(t, func(r *rapid.T) {
		if _, err := pool.Exec(t.Context(), `truncate events, idempotency_keys`); err != nil {
			r.Fatal(err)
		}
		m := &logModel{versions: make(map[uuid.UUID]int64), keys: make(map[[16]byte]eventstore.StoredKey)}
		streams := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
		heads := []eventstore.Head{{}}
		for range rapid.IntRange(1, 12).Draw(r, "batches") {
			head := m.head()
			switch rapid.IntRange(0, 5).Draw(r, "on") {
			case 0:
				head = rapid.SampledFrom(heads).Draw(r, "earlier")
			case 1:
				head = eventstore.Head{Position: max(head.Position, 1), EventID: uuid.New()}
			}
			b := m.draw(r, streams)
			store := rapid.SampledFrom(stores).Draw(r, "store")
			got, err := appendEither(t, store, rapid.Bool().Draw(r, "locked"), head, b)
			want := m.append(head, b)
			slices.SortFunc(got.Taken, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
			slices.SortFunc(want.Taken, func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
			if err != nil || got.Moved != want.Moved || !slices.Equal(got.Taken, want.Taken) {
				r.Fatalf("%+v on %+v is %+v, %v; want %+v", b, head, got, err, want)
			}
			heads = append(heads, m.head())
		}
		m.check(t, r, stores[0])
	})
}

func (m *logModel) check(t *testing.T, r *rapid.T, store *eventstore.Store) {
	t.Helper()
	var all [][16]byte
	for k := range m.keys {
		all = append(all, k)
	}
	stored, err := store.LookupKeys(t.Context(), all)
	if err != nil || len(stored) != len(all) {
		r.Fatalf("%d of %d keys, %v", len(stored), len(all), err)
	}
	for _, k := range stored {
		want := m.keys[k.Hash]
		if k.First != want.First || k.Count != want.Count || k.Fingerprint != want.Fingerprint || !slices.Equal(k.Refusal, want.Refusal) {
			r.Fatalf("key %+v, want %+v", k, want)
		}
	}
	if head, err := store.Last(t.Context()); err != nil || head != m.head() {
		r.Fatalf("the head is %+v, want %+v (%v)", head, m.head(), err)
	}
	checkLog(t, store)
}
