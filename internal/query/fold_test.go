package query_test

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/account"
	"passbook/internal/money"
	"passbook/internal/query"
)

// Each check compares the results of one kind of query with a fold of the history.

// checkPeriod compares the balances at the ends of a period, and the movements between them, which must lead from one to the other.
func (f *fixture) checkPeriod(t *rapid.T, log []recorded, id uuid.UUID, filter query.StatementFilter) {
	from, to := filter.From, filter.To
	if from != nil && to != nil && from.After(*to) {
		from, to = to, from
	}
	end := before(log, to)
	p, applied, err := f.svc.Period(t.Context(), id, from, to, query.Wait{})
	closing, open := last(log, end, id)
	if !open {
		if !errors.Is(err, query.ErrNotOpenThen) {
			t.Fatalf("the period of an account that was not open: %+v, %v", p, err)
		}
		return
	}
	want := query.Period{
		AccountID: id, Owner: closing.state.Owner, Currency: closing.state.Currency, From: p.From, To: p.To,
		ToPosition: int64(end), Closing: closing.state.Balance,
	}
	if from != nil {
		begin := before(log, from)
		if opening, open := last(log, begin, id); open {
			want.FromPosition, want.Opening = int64(begin), opening.state.Balance
		}
	}
	if err != nil || applied != int64(len(log)) || !cmp.Equal(p, want, currencies) || !isCeiling(p.From, from) || to != nil && !isCeiling(&p.To, to) {
		t.Fatalf("from %v to %v: %+v, %d, %v\nwant %+v", from, to, p, applied, err, want)
	}
	var listed []query.Transaction
	for after := int64(0); ; {
		page, err := f.svc.PeriodMovements(t.Context(), &p, after, filter.Limit)
		if err != nil {
			t.Fatalf("movements of %+v: %v", p, err)
		}
		if listed = append(listed, page...); len(page) < filter.Limit {
			break
		}
		after = page[len(page)-1].Position
	}
	all := movements(log, end)
	for i := range all {
		all[i].ReversedBy, all[i].ReversedAmount = nil, 0
	}
	all = slices.DeleteFunc(all, func(m query.Transaction) bool { return m.AccountID != id || m.Position <= want.FromPosition })
	if diff := cmp.Diff(all, listed, currencies); diff != "" && len(all)+len(listed) > 0 {
		t.Fatalf("movements of %+v (-want +got):\n%s", p, diff)
	}
	sum := p.Opening
	for _, m := range listed {
		if isIn(m) {
			sum += m.Amount
		} else {
			sum -= m.Amount
		}
	}
	if sum != p.Closing {
		t.Fatalf("the movements of %+v lead to %d", p, sum)
	}
}

// isCeiling reports whether a time is another, rounded up to microseconds; both may be nil.
func isCeiling(got, of *time.Time) bool {
	if got == nil || of == nil {
		return got == of
	}
	return got.Equal(got.Truncate(time.Microsecond)) && !got.Before(*of) && got.Sub(*of) < time.Microsecond
}

// anySearch draws a filter with values that movements of the history have.
func anySearch(t *rapid.T, log []recorded) query.SearchFilter {
	bounds := anyFilter(t, log)
	filter := query.SearchFilter{From: bounds.From, To: bounds.To, Sort: bounds.Sort, Limit: bounds.Limit, Count: true}
	switch rapid.IntRange(0, 6).Draw(t, "filter") {
	case 0:
		filter.Reference = rapid.SampledFrom(references).Draw(t, "reference")
	case 1:
		filter.Metadata = rapid.SampledFrom(labels).Draw(t, "metadata")
	case 2:
		filter.MinAmount = rapid.SampledFrom([]string{"1", "2.5", "100"}).Draw(t, "least")
	case 3:
		filter.MaxAmount = rapid.SampledFrom([]string{"1", "2.5", "100"}).Draw(t, "most")
	case 4:
		filter.Currency = rapid.SampledFrom([]string{"EUR", "JPY"}).Draw(t, "currency")
	case 5:
		filter.TransferID = rapid.SampledFrom(append(movements(log, len(log)), query.Transaction{})).Draw(t, "transfer").TransferID
	default:
		filter.Kind, filter.Reference = bounds.Kind, rapid.SampledFrom(references).Draw(t, "reference")
	}
	return filter
}

// finds reports whether a movement is one of those searched for, its time aside.
func finds(f query.SearchFilter, m query.Transaction) bool {
	amount, _ := new(big.Rat).SetString(money.FormatMinor(m.Amount, m.Currency))
	least, hasLeast := new(big.Rat).SetString(f.MinAmount)
	most, hasMost := new(big.Rat).SetString(f.MaxAmount)
	for key, value := range f.Metadata {
		if has, ok := m.Metadata[key]; !ok || has != value {
			return false
		}
	}
	return (f.Reference == "" || m.Reference == f.Reference) && (f.TransferID == uuid.Nil || m.TransferID == f.TransferID) &&
		(f.Currency == "" || m.Currency.Code() == f.Currency) && (f.Kind == "" || m.Kind == f.Kind) &&
		(!hasLeast || amount.Cmp(least) >= 0) && (!hasMost || amount.Cmp(most) <= 0)
}

// checkSearch reads all pages of a search.
func (f *fixture) checkSearch(t *rapid.T, log []recorded, filter query.SearchFilter) {
	want := slices.DeleteFunc(movements(log, before(log, filter.To)), func(m query.Transaction) bool {
		return !finds(filter, m) || filter.From != nil && m.RecordedAt.Before(*filter.From)
	})
	if filter.Sort != "recorded_at" {
		slices.Reverse(want)
	}
	got := []query.Transaction{}
	for {
		page, applied, err := f.svc.Search(t.Context(), filter, query.Wait{})
		if err != nil || applied != int64(len(log)) || *page.Total != (query.ListTotal{N: int64(len(want))}) {
			t.Fatalf("search %+v: %+v, %d, %v; want %d", filter, page.Total, applied, err, len(want))
		}
		got = append(got, page.Transactions...)
		if filter.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got, currencies); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("search %+v (-want +got):\n%s", filter, diff)
	}
}

// checkAccount compares an account as it is now with the fold.
func (f *fixture) checkAccount(t *rapid.T, log []recorded, id uuid.UUID) {
	got, _, err := f.svc.Account(t.Context(), id, query.Wait{})
	now, open := last(log, len(log), id)
	if !open {
		if !errors.Is(err, query.ErrNotFound) {
			t.Fatalf("an account that was never opened: %+v, %v", got, err)
		}
		return
	}
	want := query.Account{
		ID: id, Owner: now.state.Owner, Currency: now.state.Currency, Balance: now.state.Balance, Overdraft: now.state.OverdraftLimit,
		Held: now.state.Held, Metadata: now.state.Metadata.Map(), Status: now.state.Status.String(), Version: now.version,
		Position: now.position, UpdatedAt: now.at, Deposited: got.Deposited, Withdrawn: got.Withdrawn,
	}
	for _, r := range log {
		switch r.event.(type) {
		case account.AccountCreated:
			if r.id == id {
				want.OpenedAt = r.at
			}
		case account.AccountClosed:
			if r.id == id {
				want.ClosedAt = r.at
			}
		}
	}
	if diff := cmp.Diff(want, got, currencies); err != nil || diff != "" {
		t.Fatalf("account %s: %v (-want +got):\n%s", id, err, diff)
	}
	in, out := new(big.Int), new(big.Int) // a reversal counts in the sum of the movement that it reverses
	for _, m := range movements(log, len(log)) {
		if m.AccountID != id || m.Reverses != 0 {
			continue
		}
		sum := out
		if isIn(m) {
			sum = in
		}
		sum.Add(sum, big.NewInt(m.Amount-m.ReversedAmount))
	}
	for text, sum := range map[string]*big.Int{"deposited " + got.Deposited: in, "withdrawn " + got.Withdrawn: out} {
		if minor := strings.TrimLeft(strings.ReplaceAll(text[len("deposited "):], ".", ""), "0"); minor != strings.TrimLeft(sum.String(), "0") {
			t.Fatalf("account %s: %s, not %s minor units", id, text, sum)
		}
	}
}

// checkHolds reads the holds of an account page by page, all or by status, and one of them by its id.
func (f *fixture) checkHolds(t *rapid.T, log []recorded, id uuid.UUID) {
	if _, open := last(log, len(log), id); !open {
		return
	}
	filter := query.HoldFilter{
		Status: rapid.SampledFrom([]string{"", "", "open", "captured", "released", "expired"}).Draw(t, "status"),
		Limit:  rapid.IntRange(1, 3).Draw(t, "limit"), Count: true,
	}
	want := slices.DeleteFunc(holds(log, id), func(h query.Hold) bool { return filter.Status != "" && h.Status != filter.Status })
	var got []query.Hold
	for {
		page, applied, err := f.svc.Holds(t.Context(), id, filter, query.Wait{})
		if err != nil || applied != int64(len(log)) || *page.Total != (query.ListTotal{N: int64(len(want))}) {
			t.Fatalf("holds of %s, %+v: %+v, %d, %v; want %d", id, filter, page.Total, applied, err, len(want))
		}
		got = append(got, page.Holds...)
		if filter.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got, currencies); diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("holds of %s, %+v (-want +got):\n%s", id, filter, diff)
	}
	if len(want) > 0 {
		h := rapid.SampledFrom(want).Draw(t, "hold")
		if got, _, err := f.svc.Hold(t.Context(), id, h.ID, query.Wait{}); err != nil || !cmp.Equal(got, h, currencies) {
			t.Fatalf("hold: %+v, %v\nwant %+v", got, err, h)
		}
	}
}

// checkTransfers reads both sides of each transfer.
func (f *fixture) checkTransfers(t *rapid.T, log []recorded) {
	all := movements(log, len(log))
	for i, m := range all {
		if m.Kind != "transfer_out" {
			continue
		}
		want := query.Transfer{ID: m.TransferID, From: m, To: all[i+1]}
		if got, _, err := f.svc.Transfer(t.Context(), m.TransferID, query.Wait{}); err != nil || !cmp.Equal(got, want, currencies) {
			t.Fatalf("transfer: %+v, %v\nwant %+v", got, err, want)
		}
	}
}
