package query

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"passbook/internal/money"
)

// SearchFilter selects and orders a page of the movements of all accounts. Zero values mean any.
type SearchFilter struct {
	Reference  string
	TransferID uuid.UUID
	// Metadata is the labels that a movement must have; it may have others.
	Metadata map[string]string
	// MinAmount and MaxAmount are decimals, such as "12.34". Each movement is compared in the currency of its account: 10 is
	// 10.00 EUR and 10 JPY.
	MinAmount, MaxAmount string
	Currency             string
	// Kind is that of a Transaction.
	Kind string
	// From and To bound the time when a movement was recorded: From is included, To is not. With To a result never changes
	// later.
	From, To *time.Time
	// Sort is "-recorded_at" (the default), newest first, or "recorded_at".
	Sort string
	// Limit is the page size, 1 to 500.
	Limit int
	// Cursor is the Next of the page before, or empty for the first.
	Cursor string
	// Count asks for the number of elements on all pages.
	Count bool
}

// MovementPage is one page of movements.
type MovementPage struct {
	Transactions []Transaction
	// Next is the cursor of the page after this one, empty on the last.
	Next string
	// Total is nil unless it was asked for.
	Total *ListTotal
}

// Search returns a page of the movements of all accounts and the position the read model had applied. The errors are those of
// Statement.
func (s *Service) Search(ctx context.Context, f SearchFilter, w Wait) (MovementPage, int64, error) {
	l, id := newSearch(f), f.listID()
	var after int64
	if f.Cursor != "" {
		c, err := parseCursor(f.Cursor)
		if err != nil || c.list != id || c.byOwner {
			return MovementPage{}, 0, ErrBadCursor
		}
		after = c.position
	}
	if err := s.bound(ctx, l, f.From, f.To, &w); err != nil {
		return MovementPage{}, 0, err
	}
	l.ofList = len(l.where)
	if f.Cursor != "" {
		l.after(after)
	}
	// A parked account lacks movements, which could be anywhere in the list.
	l.parked = "f.position <= " + l.asOf
	page, applied, err := s.movements(ctx, l, w)
	if err != nil {
		return MovementPage{}, applied, err
	}
	result := MovementPage{Transactions: page.movements, Total: page.total()}
	if page.more {
		result.Next = cursor{list: id, position: page.movements[l.limit-1].Position}.String()
	}
	return result, applied, nil
}

func newSearch(f SearchFilter) *movementList {
	l := &movementList{oldestFirst: f.Sort == "recorded_at", limit: min(max(f.Limit, 1), maxLimit), count: f.Count, asOf: "null"}
	l.ofKind(f.Kind)
	for _, text := range []string{f.Reference, f.Currency} {
		if !storable(text) {
			l.and("false") // no row can hold such text, and PostgreSQL rejects it as an argument
			return l
		}
	}
	if f.Reference != "" {
		l.and("t.reference <> '' and t.reference = %s", f.Reference)
	}
	if f.TransferID != uuid.Nil {
		l.and("t.transfer_id = %s", f.TransferID)
	}
	if len(f.Metadata) > 0 {
		l.labelled(f.Metadata)
	}
	if f.Currency != "" || f.MinAmount != "" || f.MaxAmount != "" {
		l.join = joinCurrencySQL
	}
	if f.Currency != "" {
		l.filter("a.currency = %s", f.Currency)
	}
	if f.MinAmount != "" {
		l.filter("t.amount >= %s::text::numeric * "+minorUnitsSQL(), f.MinAmount)
	}
	if f.MaxAmount != "" {
		l.filter("t.amount <= %s::text::numeric * "+minorUnitsSQL(), f.MaxAmount)
	}
	return l
}

// labelled selects movements by metadata.
func (l *movementList) labelled(labels map[string]string) {
	for key, value := range labels {
		if !storable(key) || !storable(value) {
			l.and("false")
			return
		}
	}
	l.and("t.metadata is not null and t.metadata @> %s", labels)
}

// listID identifies the list: a hash of what selects and orders it.
func (f SearchFilter) listID() (id listID) {
	f.Cursor, f.Limit, f.Count = "", 0, false
	if f.Sort == "" {
		f.Sort = "-recorded_at"
	}
	text, _ := json.Marshal(f) // texts, times and a map of texts, whose keys are sorted
	sum := sha256.Sum256(append([]byte("search"), text...))
	copy(id[:], sum[:])
	return id
}

// minorUnitsSQL returns an expression for the number of minor units in one unit of a.currency.
func minorUnitsSQL() string {
	var sql strings.Builder
	sql.WriteString("case")
	for exponent, codes := range codesByExponent() {
		if exponent != usualExponent && len(codes) > 0 {
			fmt.Fprintf(&sql, " when a.currency in ('%s') then 1e%d", strings.Join(codes, "', '"), exponent)
		}
	}
	fmt.Fprintf(&sql, " else 1e%d end", usualExponent)
	return sql.String()
}

// usualExponent is that of most currencies.
const usualExponent = 2

// codesByExponent returns the codes of all currencies, by the number of their decimals.
func codesByExponent() (codes [money.MaxExponent + 1][]string) {
	const letters = 26
	for i := range letters * letters * letters {
		code := string([]byte{'A' + byte(i/letters/letters), 'A' + byte(i/letters%letters), 'A' + byte(i%letters)})
		if c, ok := money.LookupCurrency(code); ok {
			codes[c.Exponent()] = append(codes[c.Exponent()], code)
		}
	}
	return codes
}
