package httpapi

import (
	"net/http"

	"passbook/internal/httpapi/genapi"
)

// GetStats serves GET /stats.
func (s *server) GetStats(w http.ResponseWriter, r *http.Request, p genapi.GetStatsParams) {
	stats, applied, err := s.statistics.Stats(r.Context(), wait(w, p.MinPosition, p.Prefer))
	if !s.applied(w, r, applied, err) {
		return
	}
	readingOf(r).completed()
	body := genapi.Stats{
		Position:        applied,
		AsOf:            timeText(stats.AsOf),
		EventsPerSecond: genapi.EventRates{Last1S: stats.Last1, Last10S: stats.Last10, Last60S: stats.Last60},
		Accounts:        genapi.AccountCounts{Active: stats.Active, Suspended: stats.Suspended, Closed: stats.Closed},
		Moved:           make([]genapi.Moved, len(stats.Moved)),
	}
	for i, m := range stats.Moved {
		body.Moved[i] = genapi.Moved{Currency: m.Currency.Code(), Amount: m.Amount, Movements: m.Movements}
	}
	s.reply(w, r, http.StatusOK, &body, nil)
}
