package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"passbook/internal/httpapi/genapi"
)

// LiveStats is what GET /stats answers, as the read model has it.
type LiveStats struct {
	// Position is the last that was applied.
	Position int64
	// Last1, Last10 and Last60 are events a second over so many seconds.
	Last1, Last10, Last60 float64
	// Active, Suspended and Closed count the accounts.
	Active, Suspended, Closed int64
	// Moved is the money moved in the last 60 seconds, by currency.
	Moved []MovedMoney
}

// MovedMoney is the money moved in one currency; Amount is in decimal.
type MovedMoney struct {
	Currency, Amount string
	Movements        int64
}

// GetStats serves GET /stats.
func (s *server) GetStats(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	live := s.stats(now)
	body := genapi.Stats{
		Position:        live.Position,
		AsOf:            timeText(now),
		EventsPerSecond: genapi.EventRates{Last1S: live.Last1, Last10S: live.Last10, Last60S: live.Last60},
		Accounts:        genapi.AccountCounts{Active: live.Active, Suspended: live.Suspended, Closed: live.Closed},
		Moved:           make([]genapi.Moved, len(live.Moved)),
	}
	for i, m := range live.Moved {
		body.Moved[i] = genapi.Moved{Currency: m.Currency, Amount: m.Amount, Movements: m.Movements}
	}
	w.Header()["Passbook-Position"] = []string{strconv.FormatInt(live.Position, 10)}
	s.reply(w, r, http.StatusOK, &body, nil)
}
