package httpapi

import (
	"cmp"
	"net/http"
	"strconv"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/projector"
)

// failuresPage is the default size of a page of failures.
const failuresPage = 100

// ListFailures serves GET /projections/{projection_id}/failures.
func (s *server) ListFailures(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID, p genapi.ListFailuresParams) {
	limit := cmp.Or(int(p.Limit), failuresPage)
	all, err := s.failures.Failures(r.Context(), id, p.After, limit)
	list := genapi.FailureList{Failures: make([]genapi.Failure, len(all))}
	for i := range all {
		list.Failures[i] = failureOf(&all[i])
		readingOf(r).account(all[i].StreamID)
	}
	readingOf(r).completed()
	if err == nil && len(all) == limit {
		next := r.URL.Query()
		next.Set("after", strconv.FormatInt(all[limit-1].Position, 10))
		w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	s.reply(w, r, http.StatusOK, &list, err)
}

// RetryFailure serves POST /projections/{projection_id}/failures/{position}/retry.
func (s *server) RetryFailure(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID, position int64) {
	f, err := s.failures.RetryFailure(r.Context(), id, position)
	s.reply(w, r, http.StatusAccepted, new(failureOf(&f)), err)
}

func failureOf(f *projector.Failure) genapi.Failure {
	return genapi.Failure{
		Position:      f.Position,
		EventID:       f.EventID,
		Type:          f.Type,
		AccountID:     f.StreamID,
		Error:         nullable(f.Error),
		Attempts:      f.Attempts,
		Parked:        f.Parked,
		Waiting:       f.Waiting,
		RetryAsked:    f.RetryAsked,
		FirstFailedAt: timeText(f.FirstFailedAt),
		LastTriedAt:   timeText(f.LastTriedAt),
	}
}
