package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/elnormous/contenttype"
	"github.com/go-chi/chi/v5"
	"github.com/go-json-experiment/json"

	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/request"
	"passbook/internal/projector"
)

const (
	// progressEvery is how often a replay's progress is read, and at most sent.
	progressEvery = 250 * time.Millisecond
	// maxWatching bounds the streams of progress: each queries the database by itself.
	maxWatching = 32
)

// streamReplay sends a replay's progress as server-sent events until the replay ends, the reader disconnects, or the service
// stops.
func (s *server) streamReplay(w http.ResponseWriter, r *http.Request, replay *projector.Replay, unnamed bool) {
	release, refused := s.watching.take(r)
	if refused != nil {
		s.fail(w, r, refused)
		return
	}
	defer release()
	out, end := s.beginStream(w, r, unnamed)
	if out == nil {
		return
	}
	defer end()
	if err := s.watch(r, out, replay); err != nil && !errors.Is(err, feed.ErrReaderGone) {
		_ = s.explain(r, err) // logs it; the response has begun, so it can only end
	}
}

// watch sends one event for each change.
func (s *server) watch(r *http.Request, out *feed.Writer, replay *projector.Replay) error {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	type state struct { // in the last event; the rate always changes
		replay            projector.ReplayState
		processed, parked int64
	}
	var (
		last   state
		lastAt time.Time
	)
	for {
		over := replay.State != projector.ReplayRunning
		switch now := (state{replay.State, replay.Processed, replay.Parked}); {
		case now != last:
			text, err := json.Marshal(new(replayOf(replay)))
			if err != nil {
				return fmt.Errorf("httpapi: replay: %w", err)
			}
			name := "progress"
			if over {
				name = string(replay.State)
			}
			out.Event(name, text)
			last, lastAt = now, time.Now()
		case time.Since(lastAt) >= s.streams.Heartbeat:
			out.Heartbeat()
			lastAt = time.Now()
		}
		if err := out.Flush(); err != nil || over {
			return err
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-s.stopping:
			return nil
		case <-ticker.C:
		}
		next, err := s.replays.Replay(r.Context(), replay.Projection, replay.ID)
		switch {
		case r.Context().Err() != nil:
			return nil
		case err == nil:
			replay = &next
		case !s.unavailable(err): // if the database is unavailable, wait for it
			return err
		}
	}
}

// problemType is the media type of problem documents.
var problemType = contenttype.NewMediaType("application/problem+json")

// takesNoProblem reports whether a request accepts server-sent events but no problem documents, like those of a browser's
// EventSource. It may be called before routing.
func (s *server) takesNoProblem(r *http.Request) bool {
	accept := strings.Join(r.Header["Accept"], ",")
	if !strings.Contains(accept, request.EventStream) {
		return false
	}
	op := s.operation(r)
	if match := chi.NewRouteContext(); op == nil && s.mux.Match(match, http.MethodGet, r.URL.Path) {
		op = s.spec.Operation(r.Method, match.RoutePattern())
	}
	if op == nil || op.PreferredType(r.Header) != request.EventStream {
		return false
	}
	_, _, err := contenttype.GetAcceptableMediaTypeFromHeader(accept, []contenttype.MediaType{problemType})
	return err != nil
}

// retryStream responds with 200 and an empty stream to a request for a stream that cannot be served now. Any other status ends an
// EventSource for good (HTML standard, section 9.2.3), while it reopens one that has ended, after the time given.
func retryStream(w http.ResponseWriter, p *problem) {
	w.Header().Del("Etag")
	text := fmt.Sprintf(": %s\nretry: %d\n\n", p.Error(), int64(p.retryAfter)*1000)
	write(w, http.StatusOK, request.EventStream, []byte(text))
}
