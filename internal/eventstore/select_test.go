package eventstore_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

// TestSelect compares every selection with a filter of the whole log.
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

// TestReadAfterIsSelectWithoutMetadata compares the two ways to read the log, on events of all shapes.
func TestReadAfterIsSelectWithoutMetadata(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `insert into events select n, gen_random_uuid(), n, gen_random_uuid(), 'Type' || n % 3, n % 5,
		jsonb_build_object('n', n, 'text', repeat('ä', n % 97 * 40)), '{"actor": "x"}',
		'1999-12-31 23:59:59.5'::timestamptz + n * interval '1.000001 second' from generate_series(1, 3000) n`)
	if err != nil {
		t.Fatal(err)
	}
	store := eventstore.New(pool)
	for _, page := range []struct {
		after int64
		limit int
	}{{0, 10_000}, {17, 1}, {2990, 100}, {3000, 5}} {
		want, err := store.Select(t.Context(), page.after, 3000, eventstore.Selection{}, page.limit)
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.ReadAfter(t.Context(), page.after, page.limit)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d events, want %d (%v)", len(got), len(want), err)
		}
		for i := range want {
			want[i].Metadata = nil
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("%+v, want %+v", got[i], want[i])
			}
		}
	}
}

// TestReadNamed reads the events named by transfer ids, hold ids and positions, and nothing else: neither events of other types
// with the ids, nor events beyond the position.
func TestReadNamed(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	var ids [][16]byte
	for range 10 {
		ids = append(ids, uuid.New())
	}
	id := func(i int) uuid.UUID { return ids[i] }
	for _, e := range [][2]string{
		{"TransferSent", fmt.Sprintf(`{"transfer_id":"%s"}`, id(0))}, // at position 1
		{"TransferReceived", fmt.Sprintf(`{"transfer_id":"%s"}`, id(0))},
		{"HoldPlaced", fmt.Sprintf(`{"hold_id":"%s"}`, id(1))},
		{"HoldPlaced", fmt.Sprintf(`{"hold_id":"%s"}`, id(2))},
		{"DebitReversed", fmt.Sprintf(`{"reversed_position":1, "transfer_id":"%s"}`, id(0))},
		{"CreditReversed", fmt.Sprintf(`{"reversed_position":2, "transfer_id":"%s"}`, id(0))},
		{"HoldExpired", fmt.Sprintf(`{"hold_id":"%s"}`, id(1))},
		{"TransferSent", fmt.Sprintf(`{"transfer_id":"%s"}`, id(3))},
		{"DebitReversed", fmt.Sprintf(`{"reversed_position":11, "transfer_id":"%s"}`, id(0))},
		{"DebitReversed", fmt.Sprintf(`{"reversed_position":1, "transfer_id":"%s"}`, id(0))}, // at position 10
	} {
		events := happened(uuid.New(), 0, 1)
		events[0].Type, events[0].Payload = e[0], []byte(e[1])
		mustAppend(t, store, events)
	}
	for name, test := range map[string]struct {
		named eventstore.Named
		upTo  int64
		want  []int64
	}{
		"nothing":             {eventstore.Named{}, 10, nil},
		"a transfer":          {eventstore.Named{Transfers: ids[:1]}, 10, []int64{1}},
		"a hold that ended":   {eventstore.Named{Holds: ids[1:2]}, 10, []int64{3, 7}},
		"before it ended":     {eventstore.Named{Holds: ids[1:2]}, 6, []int64{3}},
		"a transfer as hold":  {eventstore.Named{Holds: ids[:1]}, 10, nil},
		"an unknown one":      {eventstore.Named{Holds: ids[9:], Transfers: ids[9:], Positions: []int64{12}}, 10, nil},
		"a side":              {eventstore.Named{Positions: []int64{1}}, 10, []int64{1, 5, 10}},
		"before the last":     {eventstore.Named{Positions: []int64{1}}, 9, []int64{1, 5}},
		"beyond the position": {eventstore.Named{Positions: []int64{8}}, 7, nil},
		"several": {
			eventstore.Named{Transfers: ids[:4], Holds: ids[:4], Positions: []int64{1, 1, 7, 5}}, 10, []int64{1, 3, 4, 5, 7, 8, 10},
		},
	} {
		var got []int64
		err := store.ReadNamed(t.Context(), test.named, test.upTo, func(e *eventstore.Event) error {
			got = append(got, e.Position)
			return nil
		})
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, %v; want %v", name, got, err, test.want)
		}
	}
}
