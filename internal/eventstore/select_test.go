package eventstore_test

import (
	"fmt"
	"maps"
	"reflect"
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

// TestTransfers looks up ids of transfers: of one that was sent, of one that is beyond the position, and of events of other types.
func TestTransfers(t *testing.T) {
	t.Parallel()
	store := eventstore.New(pgtest.New(t))
	ids := [][16]byte{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	for i, name := range []string{"TransferSent", "TransferReceived", "TransferSent"} {
		e := happened(uuid.New(), 0, 1)
		e[0].Type, e[0].Payload = name, fmt.Appendf(nil, `{"transfer_id":"%s"}`, uuid.UUID(ids[i]))
		mustAppend(t, store, e)
	}
	for upTo, want := range []map[[16]byte]bool{{}, {ids[0]: true}, {ids[0]: true}, {ids[0]: true, ids[2]: true}} {
		if got, err := store.Transfers(t.Context(), ids, int64(upTo)); err != nil || !maps.Equal(got, want) {
			t.Errorf("up to position %d: %v, %v", upTo, got, err)
		}
	}
}
