package httpapi

import (
	"net/http"
	"time"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/money"
	"passbook/internal/query"
)

// balanceAt serves GET /accounts/{account_id}/balance with at or at_position.
func (s *server) balanceAt(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.GetBalanceParams) {
	if p.At != "" && p.AtPosition != 0 {
		s.fail(w, r, request.ParameterError("at", "ambiguous", "cannot be given together with at_position"))
		return
	}
	at := query.AsOf{Position: p.AtPosition}
	if t := timeOf(p.At); t != nil {
		at.Time = *t
	}
	b, applied, err := s.statements.BalanceAt(r.Context(), id, at, wait(w, p.MinPosition, p.Prefer))
	if s.applied(w, r, applied, err) {
		s.respond(w, r, request.VersionTag(b.Version), func() any { return balanceThen(&b) })
	}
}

// ListTransactions serves GET /accounts/{account_id}/transactions.
func (s *server) ListTransactions(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.ListTransactionsParams) {
	filter := query.StatementFilter{
		From: timeOf(p.From), To: timeOf(p.To), Kind: string(p.Kind),
		Sort: string(p.Sort), Limit: int(p.Limit), Cursor: p.Cursor, Count: p.Count,
	}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, applied, err := s.statements.Statement(r.Context(), id, filter, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	body := genapi.TransactionPage{
		AccountID: page.AccountID, Currency: page.Currency.Code(),
		Transactions: make([]genapi.Transaction, len(page.Transactions)), NextCursor: nullable(page.Next),
	}
	body.Total, body.TotalExceeds = total(page.Total)
	for i := range page.Transactions {
		body.Transactions[i] = transactionOf(&page.Transactions[i])
	}
	linkNext(w, r, page.Next)
	s.respondMovements(w, r, &body, body.Transactions)
}

// GetTotals serves GET /totals.
func (s *server) GetTotals(w http.ResponseWriter, r *http.Request, p genapi.GetTotalsParams) {
	totals, applied, err := s.statements.Totals(r.Context(), wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	readingOf(r).completed()
	body := genapi.TotalList{Totals: make([]genapi.Total, len(totals))}
	for i, t := range totals {
		body.Totals[i] = genapi.Total{
			Currency: t.Currency.Code(), Accounts: t.Accounts, Balance: t.Balance, Deposited: t.Deposited, Withdrawn: t.Withdrawn,
		}
	}
	text, err := encode(&body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.respondText(w, r, contentTag(text), text)
}

// timeOf reads the time in a parameter that has been validated; nil means that it was not given.
func timeOf(text string) *time.Time {
	t, ok := request.ParseTime(text)
	if !ok {
		return nil
	}
	return &t
}

func balanceThen(b *query.BalanceAt) *genapi.Balance {
	return &genapi.Balance{
		AccountID: b.ID,
		Owner:     b.Owner,
		Erased:    erased(b.Owner),
		Currency:  b.Currency.Code(),
		Balance:   money.FormatMinor(b.Balance, b.Currency),
		Held:      money.FormatMinor(b.Held, b.Currency),
		Available: available(b.Balance, b.Overdraft, b.Held, b.Currency),
		Metadata:  b.Metadata,
		Status:    genapi.AccountStatus(b.Status),
		Version:   b.Version,
		Position:  b.Position,
		UpdatedAt: timeText(b.UpdatedAt),
	}
}

func transactionOf(t *query.Transaction) genapi.Transaction {
	body := genapi.Transaction{
		AccountID:             t.AccountID,
		Currency:              t.Currency.Code(),
		Position:              t.Position,
		Version:               t.Version,
		RecordedAt:            timeText(t.RecordedAt),
		Kind:                  genapi.TransactionKind(t.Kind),
		Amount:                money.FormatMinor(t.Amount, t.Currency),
		Balance:               money.FormatMinor(t.Balance, t.Currency),
		CounterpartyAccountID: nullable(t.Counterparty),
		TransferID:            nullable(t.TransferID),
		Reference:             nullable(t.Reference),
		Metadata:              t.Metadata,
		HoldID:                nullable(t.HoldID),
		Reverses:              nullable(t.Reverses),
	}
	if t.ReversedBy != nil {
		body.ReversedBy, body.ReversedAmount = t.ReversedBy, money.FormatMinor(t.ReversedAmount, t.Currency)
	}
	return body
}
