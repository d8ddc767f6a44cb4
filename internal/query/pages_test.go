package query_test

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/query"
)

// listed is an account as the tests know it.
type listed struct {
	id                      uuid.UUID
	owner, currency, status string
	opened                  int64
	rank                    int // of the owner, in the order of the database
}

var owners = rapid.OneOf(
	rapid.SampledFrom([]string{"a", "A", "a|b", "|", "ä", "𝕬", "%", "_", `\`, "' or 1=1 --", " ", "a ", "o\n", "\u202e", "1|00000000"}),
	rapid.StringN(1, 5, -1).Filter(func(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }),
)

// fill makes a read model of random accounts, some of which share an owner.
func (f *fixture) fill(t *rapid.T) []listed {
	f.exec(t, `truncate balances`)
	var all []listed
	for i := range rapid.IntRange(0, 15).Draw(t, "accounts") {
		a := listed{
			id: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), owner: owners.Draw(t, "owner"),
			currency: rapid.SampledFrom([]string{"EUR", "JPY"}).Draw(t, "currency"),
			status:   rapid.SampledFrom([]string{"active", "suspended", "closed"}).Draw(t, "status"), opened: int64(i + 1),
		}
		if slices.ContainsFunc(all, func(b listed) bool { return b.id == a.id }) {
			continue
		}
		all = append(all, a)
		f.exec(t, insertAccount, 1, a.id, a.owner, a.currency, 0, "66", a.status, a.opened, nil)
	}
	// The order of texts is that of the database.
	for i := range all {
		err := f.pool.QueryRow(t.Context(), `select count(distinct owner) from balances where owner < $1`, all[i].owner).Scan(&all[i].rank)
		if err != nil {
			t.Fatalf("rank: %v", err)
		}
	}
	return all
}

// expect returns the ids that a list must show, in order.
func expect(all []listed, f query.ListFilter) (ids []uuid.UUID) {
	kept := slices.DeleteFunc(slices.Clone(all), func(a listed) bool {
		return f.Owner != "" && a.owner != f.Owner || f.Currency != "" && a.currency != f.Currency || f.Status != "" && a.status != f.Status
	})
	slices.SortFunc(kept, func(a, b listed) int {
		order := cmp.Compare(a.opened, b.opened)
		if strings.HasSuffix(f.Sort, "owner") {
			order = cmp.Or(cmp.Compare(a.rank, b.rank), bytes.Compare(a.id[:], b.id[:]))
		}
		if strings.HasPrefix(f.Sort, "-") {
			order = -order
		}
		return order
	})
	for _, a := range kept {
		ids = append(ids, a.id)
	}
	return ids
}

func TestPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	rapid.Check(t, func(t *rapid.T) {
		all := f.fill(t)
		filter := query.ListFilter{
			Sort:     rapid.SampledFrom([]string{"", "opened_at", "-opened_at", "owner", "-owner"}).Draw(t, "sort"),
			Currency: rapid.SampledFrom([]string{"", "", "EUR", "JPY"}).Draw(t, "by currency"),
			Status:   rapid.SampledFrom([]string{"", "", "active", "closed"}).Draw(t, "by status"),
			Limit:    rapid.IntRange(1, 6).Draw(t, "limit"),
		}
		if len(all) > 0 && rapid.Bool().Draw(t, "by owner") {
			filter.Owner = rapid.SampledFrom(all).Draw(t, "whose").owner
		}
		want := expect(all, filter)
		var got []uuid.UUID
		for pages := 0; ; pages++ {
			page, _, err := f.svc.Accounts(t.Context(), filter, query.Wait{})
			if err != nil || len(page.Accounts) > filter.Limit || pages > len(all) {
				t.Fatalf("page %d: %+v, %v", pages, page, err)
			}
			for _, a := range page.Accounts {
				got = append(got, a.ID)
			}
			if page.Next == "" {
				break
			}
			if len(page.Accounts) != filter.Limit {
				t.Fatalf("page %d is short but not the last: %+v", pages, page)
			}
			f.tamper(t, filter, page.Next)
			filter.Cursor = page.Next
		}
		if !slices.Equal(got, want) {
			t.Fatalf("filter %+v\ngot  %v\nwant %v", filter, got, want)
		}
	})
}

// tamper changes a cursor, or uses it for another list. A changed one may be a cursor that the service could have made; any other
// must be rejected with ErrBadCursor.
func (f *fixture) tamper(t *rapid.T, filter query.ListFilter, cursor string) {
	raw := []byte(cursor)
	raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
	filter.Cursor = string(raw)
	if _, _, err := f.svc.Accounts(t.Context(), filter, query.Wait{}); err != nil && !errors.Is(err, query.ErrBadCursor) {
		t.Fatalf("cursor %q: %v", filter.Cursor, err)
	}
	// A cursor is for one list: not for another order, and not for other filters.
	filter.Cursor = cursor
	for _, other := range []query.ListFilter{
		{Sort: "opened_at"},
		{Sort: "-opened_at"},
		{Sort: "owner"},
		{Sort: "-owner"},
		{Sort: filter.Sort, Owner: filter.Owner + "x"},
		{Sort: filter.Sort, Currency: "USD"},
		{Sort: filter.Sort, Status: "closed"},
	} {
		if cmp.Or(other.Sort, "opened_at") == cmp.Or(filter.Sort, "opened_at") && other.Owner == filter.Owner &&
			other.Currency == filter.Currency && other.Status == filter.Status {
			continue
		}
		other.Cursor, other.Limit = cursor, filter.Limit
		if _, _, err := f.svc.Accounts(t.Context(), other, query.Wait{}); !errors.Is(err, query.ErrBadCursor) {
			t.Fatalf("cursor %q of %+v is accepted for %+v: %v", cursor, filter, other, err)
		}
	}
}

// TestOddFilters filters by values that no row can hold; none is an error.
func TestOddFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `insert into projections (id, version, generation, position) values ('balances', 1, 1, 12)`)
	f.exec(t, insertAccount, 1, uuid.New(), "a", "EUR", 0, "66", "active", 1, nil)
	f.exec(t, insertAccount, 1, uuid.New(), "b", "EUR", 0, "66", "active", 2, nil)
	for _, tt := range []struct {
		filter query.ListFilter
		want   int
	}{
		{query.ListFilter{Limit: 5, Owner: "\xff"}, 0},
		{query.ListFilter{Limit: 5, Owner: "a\x00"}, 0},
		{query.ListFilter{Limit: 5, Currency: "\xff", Status: "active"}, 0},
		{query.ListFilter{Limit: 5, Owner: "%s"}, 0},
		{query.ListFilter{Limit: 0}, 1},
		{query.ListFilter{Limit: -5}, 1},
		{query.ListFilter{Limit: 1 << 30}, 2},
	} {
		page, applied, err := f.svc.Accounts(t.Context(), tt.filter, query.Wait{})
		if err != nil || applied != 12 || len(page.Accounts) != tt.want {
			t.Errorf("%+v: %+v, %d, %v", tt.filter, page, applied, err)
		}
	}
}
