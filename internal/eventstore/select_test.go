package eventstore_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestSelect holds every selection against a filter of the whole log.
func TestSelect(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	a, b := uuid.New(), uuid.New()
	for i := range int64(20) { // a gets every third event and more
		mustAppend(t, store, happened(a, i*2, 1), happened(b, i, 1), happened(a, i*2+1, 1))
	}
	other := happened(a, 40, 1)
	other[0].Type = "Else"
	mustAppend(t, store, other, happened(b, 20, 2))
	const head = 63
	all, err := store.ReadAfter(t.Context(), 0, head)
	if err != nil || len(all) != head {
		t.Fatalf("%d events, %v", len(all), err)
	}
	for _, sel := range []eventstore.Selection{
		{},
		{StreamID: a},
		{StreamID: b},
		{StreamID: uuid.New()},
		{Types: []string{"Happened"}},
		{Types: []string{"Else", "Never"}},
		{StreamID: a, Types: []string{"Else"}},
		{StreamID: b, Types: []string{"Else"}},
	} {
		for after := int64(0); after <= head; after++ {
			for _, window := range []int64{0, 1, 5, head} {
				for _, limit := range []int{1, 4, 100} {
					upTo := min(after+window, head)
					got, err := store.Select(t.Context(), after, upTo, sel, limit)
					if err != nil {
						t.Fatalf("%+v after %d: %v", sel, after, err)
					}
					want := expected(all, after, upTo, sel, limit)
					same := func(x, y eventstore.Event) bool { return x.Position == y.Position && x.EventID == y.EventID }
					if !slices.EqualFunc(got, want, same) {
						t.Fatalf("%+v after %d up to %d, at most %d: %d events, want %d", sel, after, upTo, limit, len(got), len(want))
					}
				}
			}
		}
	}
}

func expected(all []eventstore.Event, after, upTo int64, sel eventstore.Selection, limit int) []eventstore.Event {
	var want []eventstore.Event
	for _, e := range all {
		if e.Position > after && e.Position <= upTo && (sel.StreamID == uuid.Nil || sel.StreamID == e.StreamID) &&
			(sel.Types == nil || slices.Contains(sel.Types, e.Type)) && len(want) < limit {
			want = append(want, e)
		}
	}
	return want
}
