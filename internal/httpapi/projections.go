package httpapi

import (
	"cmp"
	"math"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
	"passbook/internal/projector"
)

// ListProjections serves GET /projections.
func (s *server) ListProjections(w http.ResponseWriter, r *http.Request) {
	all, err := s.projections.Projections(r.Context())
	list := genapi.ProjectionList{Projections: make([]genapi.Projection, len(all))}
	for i := range all {
		list.Projections[i] = projectionOf(&all[i])
	}
	s.reply(w, r, http.StatusOK, &list, err)
}

// GetProjection serves GET /projections/{projection_id}.
func (s *server) GetProjection(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID) {
	status, err := s.projections.Projection(r.Context(), id)
	s.reply(w, r, http.StatusOK, new(projectionOf(&status)), err)
}

// PauseProjection serves POST /projections/{projection_id}/pause.
func (s *server) PauseProjection(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID) {
	status, err := s.control.Pause(r.Context(), id)
	s.reply(w, r, http.StatusOK, new(projectionOf(&status)), err)
}

// ResumeProjection serves POST /projections/{projection_id}/resume.
func (s *server) ResumeProjection(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID) {
	status, err := s.control.Resume(r.Context(), id)
	s.reply(w, r, http.StatusOK, new(projectionOf(&status)), err)
}

// StartReplay serves POST /projections/{projection_id}/replay.
func (s *server) StartReplay(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID) {
	replay, err := s.replays.StartReplay(r.Context(), id)
	if err == nil {
		w.Header().Set("Location", replayPath(replay))
	}
	s.reply(w, r, http.StatusAccepted, new(replayOf(&replay)), err)
}

// GetReplay serves GET /projections/{projection_id}/replays/{replay_id}: its state, or a stream of its progress.
func (s *server) GetReplay(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID, replayID genapi.ReplayID, p genapi.GetReplayParams) {
	replay, err := s.replays.Replay(r.Context(), id, replayID)
	if s.negotiate(w, r) == request.EventStream && err == nil {
		s.streamReplay(w, r, &replay, p.Unnamed)
		return
	}
	s.reply(w, r, http.StatusOK, new(replayOf(&replay)), err)
}

// ListReplays serves GET /projections/{projection_id}/replays.
func (s *server) ListReplays(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID, p genapi.ListReplaysParams) {
	all, err := s.generations.Replays(r.Context(), id, cmp.Or(int(p.Limit), defaultLimit))
	list := genapi.ReplayList{Replays: make([]genapi.Replay, len(all))}
	for i := range all {
		list.Replays[i] = replayOf(&all[i])
	}
	s.reply(w, r, http.StatusOK, &list, err)
}

// RollbackProjection serves POST /projections/{projection_id}/rollback.
func (s *server) RollbackProjection(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID) {
	status, err := s.generations.Rollback(r.Context(), id)
	s.reply(w, r, http.StatusOK, new(projectionOf(&status)), err)
}

// CancelReplay serves DELETE /projections/{projection_id}/replays/{replay_id}.
func (s *server) CancelReplay(w http.ResponseWriter, r *http.Request, id genapi.ProjectionID, replayID genapi.ReplayID) {
	replay, err := s.replays.CancelReplay(r.Context(), id, replayID)
	s.reply(w, r, http.StatusOK, new(replayOf(&replay)), err)
}

// reply sends a result that has no ETag, or the problem that err stands for.
func (s *server) reply(w http.ResponseWriter, r *http.Request, status int, body any, err error) {
	var text []byte
	if err == nil {
		text, err = json.Marshal(body)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	write(w, status, "application/json", text)
}

func replayPath(r projector.Replay) string {
	return "/projections/" + url.PathEscape(r.Projection) + "/replays/" + r.ID.String()
}

func projectionOf(s *projector.Status) genapi.Projection {
	p := genapi.Projection{
		ID:            s.ID,
		Version:       s.Version,
		State:         genapi.ProjectionState(s.State),
		Position:      s.Position,
		Head:          s.Head,
		FirstPosition: s.First,
		Lag:           s.Lag,
		LagSeconds:    finite(s.LagSeconds),
		Rate:          finite(s.Rate),
		Generation:    s.Generation,
		Parked:        s.Parked,
		Failures:      s.Failures,
		Owner:         nullable(s.Owner),
		Error:         nullable(s.Error),
		ErrorPosition: nullable(s.ErrorPosition),
		UpdatedAt:     timeText(s.UpdatedAt),
	}
	p.PreviousGeneration = nullable(s.PreviousGeneration)
	if s.Replay != nil {
		p.Replay = new(replayOf(s.Replay))
	}
	return p
}

func replayOf(r *projector.Replay) genapi.Replay {
	eta := nullable(finite(r.ETASeconds))
	if !r.FinishedAt.IsZero() {
		eta = new(float64)
	}
	return genapi.Replay{
		ID:         r.ID,
		Projection: r.Projection,
		Kind:       genapi.ReplayKind(r.Kind),
		State:      genapi.ReplayState(r.State),
		Parked:     r.Parked,
		Processed:  r.Processed,
		Total:      r.Total,
		Rate:       finite(r.Rate),
		EtaSeconds: eta,
		Generation: r.Generation,
		StartedAt:  timeText(r.StartedAt),
		FinishedAt: nullable(timeText(r.FinishedAt)),
		Error:      nullable(r.Error),
	}
}

// nullable returns nil, which is null in JSON, for a zero value that stands for none.
func nullable[T comparable](v T) *T {
	var none T
	if v == none {
		return nil
	}
	return &v
}

// finite replaces numbers that JSON does not have, such as a rate over no time, by 0.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
