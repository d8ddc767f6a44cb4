package query_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/query"
)

// TestOwnerContains searches for a part of a name in any case, with and without accents, and for the special characters of LIKE.
func TestOwnerContains(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	for i, owner := range []string{"zoe muller", "100% _x_", `a\b`} { // as FoldName returns them
		f.exec(t, insertAccount, 1, uuid.New(), owner, "EUR", 0, "66", "active", i+1, nil)
	}
	for part, want := range map[string]int64{"MÜLL": 1, "zoë M": 1, "e": 1, "%": 1, "_": 1, `\`: 1, "0%_": 0, "0% _": 1, "\xff": 0, "x": 1, "": 3} {
		page, _, err := f.svc.Accounts(t.Context(), query.ListFilter{OwnerContains: part, Limit: 1, Count: true}, query.Wait{})
		if err != nil || page.Total == nil || *page.Total != (query.ListTotal{N: want}) || (len(page.Accounts) == 1) != (want > 0) {
			t.Errorf("%q: %+v, %v", part, page, err)
		}
		if page.Next == "" {
			continue
		}
		next, _, err := f.svc.Accounts(t.Context(), query.ListFilter{OwnerContains: part, Limit: 5, Count: true, Cursor: page.Next}, query.Wait{})
		if err != nil || *next.Total != *page.Total || len(next.Accounts) != 2 {
			t.Errorf("the second page: %+v, %v", next, err)
		}
		if _, _, err := f.svc.Accounts(t.Context(), query.ListFilter{OwnerContains: part + "z", Cursor: page.Next}, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
			t.Errorf("the cursor of another list: %v", err)
		}
	}
	if page, _, err := f.svc.Accounts(t.Context(), query.ListFilter{OwnerContains: "\u0301", Limit: 5}, query.Wait{}); err != nil || len(page.Accounts) > 0 {
		t.Errorf("an accent alone finds %d accounts, %v", len(page.Accounts), err)
	}
}

// ledger puts movements of two accounts, in euro and in yen, into the read models, up to position 20.
func (f *fixture) ledger(t *testing.T) (euro, yen, transfer, hold uuid.UUID) {
	t.Helper()
	euro, yen, transfer, hold = uuid.New(), uuid.New(), uuid.New(), uuid.New()
	f.exec(t, `insert into projections (id, version, generation, position) values ('transactions', 1, 2, 20), ('holds', 1, 2, 20), ('balances', 1, 2, 20)`)
	f.exec(t, insertAccount, 2, euro, "Ada", "EUR", 0, "66", "active", 1, nil)
	f.exec(t, `insert into account_details values (2, $1, 1, 'Ada', 'EUR', 0), (2, $2, 2, 'Eda', 'JPY', 0), (2, $1, 3, 'Adah', 'EUR', 0)`, euro, yen)
	f.exec(t, `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference,
    counterparty, transfer_id, hold_id, reversed_position, metadata) values
(2, 1, 1, '2026-01-01Z', 0, 0, 0, $1, 'O', 'a', '', null, null, null, null, null),
(2, 2, 1, '2026-01-01Z', 0, 0, 0, $2, 'O', 'a', '', null, null, null, null, null),
(2, 5, 2, '2026-01-02Z', 1000, 1000, 0, $1, 'd', 'a', 'r', null, null, null, null, '{"k": "v", "n": "1"}'),
(2, 6, 2, '2026-01-02Z', 10, 10, 0, $2, 'd', 'a', '', null, null, null, null, '{"k": "v"}'),
(2, 7, 3, '2026-01-02Z', 300, 1000, 300, $1, 'h', 'a', 'r', null, null, $4, null, '{"k": "v"}'),
(2, 8, 4, '2026-01-03Z', 300, 1000, 0, $1, 'c', 'a', '', null, null, $4, null, null),
(2, 9, 5, '2026-01-03Z', 300, 700, 0, $1, 'o', 'a', '', $2, $3, null, null, null),
(2, 10, 3, '2026-01-03Z', 300, 310, 0, $2, 'i', 'a', '', $1, $3, null, null, null),
(2, 12, 6, '2026-01-04Z', 100, 800, 0, $1, 'b', 'a', '', $2, $3, null, 9, null),
(2, 13, 4, '2026-01-04Z', 100, 210, 0, $2, 'r', 'a', '', $1, $3, null, 10, null),
(2, 15, 7, '2026-01-05Z', 50, 850, 0, $1, 'b', 'a', '', $2, $3, null, 9, null),
(1, 16, 8, '2026-01-05Z', 50, 850, 0, $1, 'b', 'a', 'r', null, null, null, 9, '{"k": "v"}')`, euro, yen, transfer, hold)
	return euro, yen, transfer, hold
}

// TestSearch finds movements by each of the filters.
func TestSearch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, _, transfer, _ := f.ledger(t)
	f.exec(t, `insert into events (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
select n, gen_random_uuid(), 1, gen_random_uuid(), 'x', 1, '{}', '{}', '2026-01-03Z'::timestamptz + make_interval(days => n - 10) from generate_series(1, 15) n`)
	day := func(n int) *time.Time { at := time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC); return &at }
	for _, tt := range []struct {
		name   string
		filter query.SearchFilter
		want   []int64
	}{
		{"all", query.SearchFilter{}, []int64{15, 13, 12, 10, 9, 6, 5}},
		{"oldest first", query.SearchFilter{Sort: "recorded_at"}, []int64{5, 6, 9, 10, 12, 13, 15}},
		{"reference", query.SearchFilter{Reference: "r"}, []int64{5}},
		{"no such reference", query.SearchFilter{Reference: "\xff"}, nil},
		{"transfer", query.SearchFilter{TransferID: transfer}, []int64{15, 13, 12, 10, 9}},
		{"transfer and kind", query.SearchFilter{TransferID: transfer, Kind: "transfer_in"}, []int64{10}},
		{"metadata", query.SearchFilter{Metadata: map[string]string{"k": "v"}}, []int64{6, 5}},
		{"two labels", query.SearchFilter{Metadata: map[string]string{"k": "v", "n": "1"}}, []int64{5}},
		{"another value", query.SearchFilter{Metadata: map[string]string{"n": "2"}}, nil},
		{"a key that no row can hold", query.SearchFilter{Metadata: map[string]string{"\x00": "2"}}, nil},
		{"currency", query.SearchFilter{Currency: "JPY"}, []int64{13, 10, 6}},
		{"at least 3, of euro and of yen", query.SearchFilter{MinAmount: "3.000"}, []int64{13, 10, 9, 6, 5}},
		{"more than 3", query.SearchFilter{MinAmount: "3.0001"}, []int64{13, 10, 6, 5}},
		{"at most 10", query.SearchFilter{MaxAmount: "10"}, []int64{15, 12, 9, 6, 5}},
		{"less than 10", query.SearchFilter{MaxAmount: "9.999"}, []int64{15, 12, 9}},
		{"beyond what 64 bits hold", query.SearchFilter{MinAmount: "9999999999999999999999"}, nil},
		{"from", query.SearchFilter{From: day(4)}, []int64{15, 13, 12}},
		{"an unknown kind", query.SearchFilter{Kind: "gift"}, nil},
	} {
		var got []int64
		tt.filter.Limit, tt.filter.Count = 2, true
		for {
			page, applied, err := f.svc.Search(t.Context(), tt.filter, query.Wait{})
			if err != nil || applied != 20 || page.Total == nil || page.Total.N != int64(len(tt.want)) {
				t.Fatalf("%s: %+v, %d, %v", tt.name, page, applied, err)
			}
			for _, m := range page.Transactions {
				got = append(got, m.Position)
			}
			if tt.filter.Cursor = page.Next; page.Next == "" {
				break
			}
			other := tt.filter
			other.Reference += "x"
			if _, _, err := f.svc.Search(t.Context(), other, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
				t.Errorf("%s: the cursor of another list: %v", tt.name, err)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, not %v", tt.name, got, tt.want)
		}
	}
}

// TestCountsAreBounded counts more movements than a count looks at: the total then says that there may be more.
func TestCountsAreBounded(t *testing.T) {
	t.Parallel()
	f, id := newFixture(t), uuid.New()
	f.exec(t, `insert into projections (id, version, generation, position) values ('transactions', 1, 2, 20000)`)
	f.exec(t, `insert into account_details values (2, $1, 1, 'Ada', 'EUR', 0)`, id)
	f.exec(t, `insert into transactions (generation, position, version, recorded_at, amount, balance, held, account_id, kind, status, reference)
select 2, n, n, '2026-01-01Z', n, 0, 0, $1, 'd', 'a', case when n % 2 = 0 then 'even' else '' end from generate_series(1, 10001) n`, id)
	for _, tt := range []struct {
		name   string
		filter query.SearchFilter
		want   query.ListTotal
	}{
		{"no filter", query.SearchFilter{}, query.ListTotal{N: 10000, Exceeds: true}},
		{"a reference", query.SearchFilter{Reference: "even"}, query.ListTotal{N: 5000}},
		{"an amount of a reference", query.SearchFilter{Reference: "even", MaxAmount: "0.02"}, query.ListTotal{N: 1}},
		{"a high amount, newest first", query.SearchFilter{MinAmount: "100"}, query.ListTotal{N: 2, Exceeds: true}},
		{"a kind", query.SearchFilter{Kind: "withdrawal"}, query.ListTotal{Exceeds: true}},
	} {
		tt.filter.Count = true
		page, _, err := f.svc.Search(t.Context(), tt.filter, query.Wait{})
		if err != nil || page.Total == nil || *page.Total != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, page.Total, err, tt.want)
		}
	}
}

// TestTransferAndReversals reads both sides of a transfer, the hold that it captured, and its reversals.
func TestTransferAndReversals(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	euro, yen, transfer, hold := f.ledger(t)
	got, applied, err := f.svc.Transfer(t.Context(), transfer, query.Wait{})
	if err != nil || applied != 20 || got.From.AccountID != euro || got.To.AccountID != yen || got.From.HoldID != hold || got.To.HoldID != uuid.Nil {
		t.Errorf("%+v, %d, %v", got, applied, err)
	}
	if !slices.Equal(got.From.ReversedBy, []int64{12, 15}) || got.From.ReversedAmount != 150 || !slices.Equal(got.To.ReversedBy, []int64{13}) {
		t.Errorf("reversals: %+v", got)
	}
	if _, applied, err := f.svc.Transfer(t.Context(), uuid.New(), query.Wait{}); !errors.Is(err, query.ErrTransferNotFound) || applied != 20 {
		t.Errorf("no transfer: %d, %v", applied, err)
	}
	f.exec(t, `delete from transactions where position = 10`)
	if _, _, err := f.svc.Transfer(t.Context(), transfer, query.Wait{}); !errors.Is(err, query.ErrBehind) {
		t.Errorf("one side: %v", err)
	}
}

// TestHoldsOfAnAccount reads holds by page and by id.
func TestHoldsOfAnAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	account, _, transfer, hold := f.ledger(t)
	f.exec(t, `insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, metadata, status, expires_at, placed_at,
    placed_position, ended_at, ended_position, transfer_id) values
(2, $1, $2, 300, 250, 'EUR', 'r', '{"k": "v"}', 'c', '2026-02-01Z', '2026-01-02Z', 7, '2026-01-03Z', 8, $3),
(2, gen_random_uuid(), $2, 1, 0, 'EUR', '', null, 'o', null, '2026-01-02Z', 11, null, null, null),
(2, gen_random_uuid(), $2, 1, 0, 'EUR', '', null, 'o', null, '2026-01-02Z', 14, null, null, null),
(1, gen_random_uuid(), $2, 1, 0, 'EUR', '', null, 'o', null, '2026-01-02Z', 15, null, null, null)`, hold, account, transfer)
	h, applied, err := f.svc.Hold(t.Context(), account, hold, query.Wait{})
	if err != nil || applied != 20 || h.Status != "captured" || h.Captured != 250 || h.TransferID != transfer || h.EndedPosition != 8 ||
		!maps.Equal(h.Metadata, map[string]string{"k": "v"}) || h.ExpiresAt.IsZero() || h.Reference != "r" || h.Position != 7 {
		t.Errorf("%+v, %d, %v", h, applied, err)
	}
	for _, ids := range [][2]uuid.UUID{{uuid.New(), hold}, {account, uuid.New()}} {
		if _, _, err := f.svc.Hold(t.Context(), ids[0], ids[1], query.Wait{}); !errors.Is(err, query.ErrHoldNotFound) {
			t.Errorf("no such hold: %v", err)
		}
	}
	for status, want := range map[string][]int64{"": {14, 11, 7}, "open": {14, 11}, "captured": {7}, "expired": nil, "none": nil} {
		var got []int64
		for filter := (query.HoldFilter{Status: status, Limit: 1, Count: true}); ; {
			page, _, err := f.svc.Holds(t.Context(), account, filter, query.Wait{})
			if err != nil || page.Total.N != int64(len(want)) {
				t.Fatalf("%s: %+v, %v", status, page, err)
			}
			for _, h := range page.Holds {
				got = append(got, h.Position)
			}
			if filter.Cursor = page.Next; page.Next == "" {
				break
			}
			if _, _, err := f.svc.Holds(t.Context(), uuid.New(), filter, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
				t.Errorf("the cursor of another account: %v", err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", status, got, want)
		}
	}
	if _, _, err := f.svc.Holds(t.Context(), uuid.New(), query.HoldFilter{}, query.Wait{}); !errors.Is(err, query.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
}

// TestExpiringHolds reads the open holds of all accounts that expire, a page at a time. Two of them expire at the same time.
func TestExpiringHolds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	euro, yen, _, _ := f.ledger(t)
	f.exec(t, `insert into holds (generation, hold_id, account_id, amount, captured, currency, reference, status, expires_at, placed_at,
    placed_position) values
(2, gen_random_uuid(), $1, 1, 0, 'EUR', 'third', 'o', '2026-02-03 00:00:00.000001Z', '2026-01-02Z', 3),
(2, $4, $2, 1, 0, 'JPY', 'second', 'o', '2026-02-02Z', '2026-01-02Z', 5),
(2, $3, $1, 1, 0, 'EUR', 'first', 'o', '2026-02-02Z', '2026-01-02Z', 7),
(2, gen_random_uuid(), $1, 1, 0, 'EUR', 'never', 'o', null, '2026-01-02Z', 9),
(2, gen_random_uuid(), $1, 1, 0, 'EUR', 'released', 'r', '2026-02-02Z', '2026-01-02Z', 11),
(1, gen_random_uuid(), $1, 1, 0, 'EUR', 'old', 'o', '2026-02-02Z', '2026-01-02Z', 13)`, euro, yen, uuid.UUID{15: 1}, uuid.UUID{15: 2})
	at := func(text string) *time.Time {
		parsed, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return &parsed
	}
	for _, test := range []struct {
		before *time.Time
		want   []string
	}{
		{nil, []string{"first", "second", "third"}},
		{at("2026-02-03T00:00:00.000001Z"), []string{"first", "second"}},
		{at("2026-02-03T00:00:00.000002Z"), []string{"first", "second", "third"}},
		{at("2026-02-02T00:00:00Z"), nil},
	} {
		var got []string
		for filter := (query.ExpiringFilter{Before: test.before, Limit: 1, Count: true}); ; {
			page, applied, err := f.svc.ExpiringHolds(t.Context(), filter, query.Wait{})
			if err != nil || applied != 20 || page.Total.N != int64(len(test.want)) {
				t.Fatalf("%v: %+v, %d, %v", test.before, page, applied, err)
			}
			for _, h := range page.Holds {
				got = append(got, h.Reference)
			}
			if filter.Cursor = page.Next; page.Next == "" {
				break
			}
			other := query.ExpiringFilter{Before: at("2026-03-01T00:00:00Z"), Cursor: page.Next}
			if _, _, err := f.svc.ExpiringHolds(t.Context(), other, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
				t.Errorf("the cursor of another list: %v", err)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("before %v: %v, not %v", test.before, got, test.want)
		}
	}
}
