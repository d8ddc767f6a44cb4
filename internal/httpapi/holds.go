package httpapi

import (
	"net/http"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/money"
	"passbook/internal/query"
)

// ListHolds serves GET /accounts/{account_id}/holds.
func (s *server) ListHolds(w http.ResponseWriter, r *http.Request, id genapi.AccountID, p genapi.ListHoldsParams) {
	filter := query.HoldFilter{Status: string(p.Status), Limit: int(p.Limit), Cursor: p.Cursor, Count: p.Count}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, applied, err := s.holds.Holds(r.Context(), id, filter, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	body := genapi.HoldPage{AccountID: id, Holds: holdsOf(page.Holds), NextCursor: nullable(page.Next)}
	body.Total, body.TotalExceeds = total(page.Total)
	linkNext(w, r, page.Next)
	s.respondContent(w, r, &body)
}

// ListExpiringHolds serves GET /holds.
func (s *server) ListExpiringHolds(w http.ResponseWriter, r *http.Request, p genapi.ListExpiringHoldsParams) {
	filter := query.ExpiringFilter{Before: timeOf(p.ExpiresBefore), Limit: int(p.Limit), Cursor: p.Cursor, Count: p.Count}
	if filter.Limit == 0 {
		filter.Limit = defaultLimit
	}
	page, applied, err := s.holds.ExpiringHolds(r.Context(), filter, wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	for i := range page.Holds {
		readingOf(r).account(page.Holds[i].AccountID)
	}
	readingOf(r).completed()
	body := genapi.ExpiringHoldPage{Holds: holdsOf(page.Holds), NextCursor: nullable(page.Next)}
	body.Total, body.TotalExceeds = total(page.Total)
	linkNext(w, r, page.Next)
	s.respondContent(w, r, &body)
}

// GetHold serves GET /accounts/{account_id}/holds/{hold_id}.
func (s *server) GetHold(w http.ResponseWriter, r *http.Request, id genapi.AccountID, holdID genapi.HoldID, p genapi.GetHoldParams) {
	hold, applied, err := s.holds.Hold(r.Context(), id, holdID, wait(w, p.MinPosition, p.Prefer))
	if s.applied(w, r, applied, err) {
		s.respondContent(w, r, new(holdOf(&hold)))
	}
}

func holdsOf(list []query.Hold) []genapi.Hold {
	holds := make([]genapi.Hold, len(list))
	for i := range list {
		holds[i] = holdOf(&list[i])
	}
	return holds
}

func holdOf(h *query.Hold) genapi.Hold {
	return genapi.Hold{
		HoldID:         h.ID,
		AccountID:      h.AccountID,
		Currency:       h.Currency.Code(),
		Amount:         money.FormatMinor(h.Amount, h.Currency),
		CapturedAmount: money.FormatMinor(h.Captured, h.Currency),
		Status:         genapi.HoldStatus(h.Status),
		Reference:      nullable(h.Reference),
		Metadata:       h.Metadata,
		ExpiresAt:      nullable(timeText(h.ExpiresAt)),
		PlacedAt:       timeText(h.PlacedAt),
		Position:       h.Position,
		EndedAt:        nullable(timeText(h.EndedAt)),
		EndedPosition:  nullable(h.EndedPosition),
		TransferID:     nullable(h.TransferID),
	}
}
