package httpapi

import (
	"net/http"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/query"
)

// GetTransfer serves GET /transfers/{transfer_id}.
func (s *server) GetTransfer(w http.ResponseWriter, r *http.Request, id genapi.TransferID, p genapi.GetTransferParams) {
	t, applied, err := s.movements.Transfer(r.Context(), id, wait(w, p.MinPosition, p.Prefer))
	if s.applied(w, r, applied, err) {
		readingOf(r).account(t.From.AccountID)
		readingOf(r).account(t.To.AccountID)
		s.respondContent(w, r, &genapi.TransferDetails{TransferID: t.ID, From: transactionOf(&t.From), To: transactionOf(&t.To)})
	}
}

// SearchTransactions serves GET /transactions.
func (s *server) SearchTransactions(w http.ResponseWriter, r *http.Request, p genapi.SearchTransactionsParams) {
	filter := query.SearchFilter{
		Reference: p.Reference, TransferID: p.TransferID, Metadata: p.Metadata, MinAmount: p.MinAmount, MaxAmount: p.MaxAmount,
		Currency: p.Currency, Kind: string(p.Kind), From: timeOf(p.From), To: timeOf(p.To),
		Sort: string(p.Sort), Limit: int(p.Limit), Cursor: p.Cursor, Count: p.Count,
	}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, applied, err := s.movements.Search(r.Context(), filter, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	body := genapi.MovementPage{Transactions: make([]genapi.Transaction, len(page.Transactions)), NextCursor: nullable(page.Next)}
	body.Total, body.TotalExceeds = total(page.Total)
	for i := range page.Transactions {
		body.Transactions[i] = transactionOf(&page.Transactions[i])
		readingOf(r).account(page.Transactions[i].AccountID)
	}
	readingOf(r).completed()
	linkNext(w, r, page.Next)
	s.respondMovements(w, r, &body, body.Transactions)
}

// respondMovements sends a page of movements as JSON, or only the movements as CSV.
func (s *server) respondMovements(w http.ResponseWriter, r *http.Request, page any, movements []genapi.Transaction) {
	if !s.wantsCSV(w, r) {
		s.respondContent(w, r, page)
		return
	}
	t := newTable(movementColumns)
	for i := range movements {
		t.movement(&movements[i])
	}
	s.respondCSV(w, r, "transactions", t)
}
