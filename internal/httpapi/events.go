package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

// StreamTimes bounds a stream of events. Where it is 0 it is 10 seconds.
type StreamTimes struct {
	// Heartbeat is how often a stream that has nothing to tell shows that it is there.
	Heartbeat time.Duration
	// Patience is how long a reader may take for one piece, of about 32 KiB, before it is cut off.
	Patience time.Duration
}

func (t StreamTimes) orDefault() StreamTimes {
	const usual = 10 * time.Second
	if t.Heartbeat <= 0 {
		t.Heartbeat = usual
	}
	if t.Patience <= 0 {
		t.Patience = usual
	}
	return t
}

const (
	// streamPiece is how much is sent at once, in bytes, when there is so much.
	streamPiece = 32 << 10
	// reconnectAfter is what a reader that lost its stream is asked to wait.
	reconnectAfter = time.Second
)

// ListEvents serves GET /events: a page, or the live feed.
func (s *server) ListEvents(w http.ResponseWriter, r *http.Request, p genapi.ListEventsParams) {
	filter := feed.Filter{Type: strings.TrimPrefix(string(p.Type), s.feed.Naming().TypePrefix), Subject: p.Subject}
	if s.negotiate(w, r) == request.EventStream {
		s.streamEvents(w, r, filter, p)
		return
	}
	limit := int(p.Limit)
	if limit == 0 {
		limit = 100
	}
	page, err := s.feed.Page(r.Context(), p.After, filter, limit)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	size := 2
	for i := range page.Items {
		size += len(page.Items[i].JSON) + 1
	}
	body := append(make([]byte, 0, size), '[')
	for i := range page.Items {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, page.Items[i].JSON...)
	}
	upTo := strconv.FormatInt(page.UpTo, 10)
	w.Header().Set("Passbook-Position", upTo)
	if page.UpTo < page.Head {
		next := r.URL.Query()
		next.Set("after", upTo)
		w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	write(w, http.StatusOK, "application/cloudevents-batch+json", append(body, ']'))
}

// errBadEventID says that a Last-Event-ID is not one of ours.
var errBadEventID = errors.New("must be the id of an event of this feed, which is a position of the log")

// parseLastEventID reads the value of a Last-Event-ID: a position, as written by a stream.
func parseLastEventID(value string) (int64, error) {
	position, err := strconv.ParseInt(value, 10, 64)
	if err != nil || position < 0 || strconv.FormatInt(position, 10) != value {
		return 0, errBadEventID
	}
	return position, nil
}

// streamStart is the position that a stream begins after: where the reader says it lost the last one, or else where it
// asks to begin; negative means the end of the log.
func streamStart(r *http.Request, after int64) (int64, error) {
	switch values := r.Header["Last-Event-Id"]; {
	case len(values) > 1:
		return 0, request.HeaderError("Last-Event-ID", request.ErrRepeated)
	case len(values) == 1 && values[0] != "":
		position, err := parseLastEventID(values[0])
		if err != nil {
			return 0, request.HeaderError("Last-Event-ID", err)
		}
		return position, nil
	case !r.URL.Query().Has("after"):
		return -1, nil
	}
	return after, nil
}

func (s *server) streamEvents(w http.ResponseWriter, r *http.Request, filter feed.Filter, p genapi.ListEventsParams) {
	after, err := streamStart(r, p.After)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	stream, err := s.feed.Open(r.Context(), after, filter)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer stream.Close()
	h := w.Header()
	h.Set("Content-Type", request.EventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back until a buffer is full
	h.Set("Passbook-Position", strconv.FormatInt(stream.Position(), 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	e := newEventStream(w, s.streams, p.Unnamed)
	defer e.out.end()
	e.begin(stream.Position(), after < 0)
	switch err := e.run(r.Context(), stream); {
	case errors.Is(err, feed.ErrWentBack):
		e.wentBack(s.explain(r, err))
	case err != nil:
		_ = s.explain(r, err) // logs it; the answer has begun, so that it can only end
	}
	if e.cut {
		s.cutOff.Inc()
	}
}

// eventStream is an answer in the format of server-sent events (HTML standard, section 9.2).
type eventStream struct {
	out   *sender
	times StreamTimes
	// told is the last position that the reader has as its Last-Event-ID.
	told int64
	// unnamed leaves the names of events out.
	unnamed bool
	// cut says that the reader did not take what was sent.
	cut bool
	buf []byte
}

func newEventStream(w http.ResponseWriter, times StreamTimes, unnamed bool) *eventStream {
	e := &eventStream{out: newSender(w, times.Patience), times: times, unnamed: unnamed}
	// The server's time for reading a request would end the stream.
	_ = e.out.conn.SetReadDeadline(time.Time{})
	return e
}

// begin says when to come back, and to a reader that did not say itself where to begin, where that is. An id alone is no
// event (HTML standard, section 9.2.6), but some readers take it for an empty one, so that it is sent to nobody else.
func (e *eventStream) begin(position int64, unsaid bool) {
	e.told = position
	e.buf = fmt.Appendf(e.buf, "retry: %d\n", reconnectAfter.Milliseconds())
	if unsaid {
		e.buf = fmt.Appendf(e.buf, "id: %d\n", position)
	}
	e.buf = append(e.buf, '\n')
}

// name begins an event.
func (e *eventStream) name(name string) {
	if !e.unnamed {
		e.buf = append(append(append(e.buf, "event: "...), name...), '\n')
	}
}

// run sends events until the reader goes, is cut off, or the service stops. Its error is none of these.
func (e *eventStream) run(ctx context.Context, stream *feed.Stream) error {
	for {
		if !e.flush() {
			return nil
		}
		items, err := stream.Next(ctx, e.times.Heartbeat)
		switch {
		case errors.Is(err, feed.ErrStopping), ctx.Err() != nil:
			return nil //nolint:nilerr // these ends are nobody's fault
		case errors.Is(err, feed.ErrQuiet):
			e.beat(stream.Position(), true)
		case err != nil:
			return err
		case len(items) == 0:
			e.beat(stream.Position(), false)
		}
		for i := range items {
			if !e.send(&items[i]) {
				return nil
			}
		}
	}
}

// wentBack is the last event of a stream whose log has gone back, with what a page would be answered. It takes the
// Last-Event-ID from the reader: one that connects again by itself begins where its URL says.
func (e *eventStream) wentBack(p *problem) {
	text, err := json.Marshal(&p.body)
	if err != nil { // not reachable: a Problem has nothing that cannot be written
		return
	}
	e.name(p.body.Code)
	e.buf = fmt.Appendf(e.buf, "id:\ndata: %s\n\n", text)
	e.flush()
}

// beat tells a reader who got no events how far the feed has come, so that it resumes there; an id alone is no event.
func (e *eventStream) beat(position int64, due bool) {
	if due {
		e.buf = append(e.buf, ": heartbeat\n"...)
	}
	if position > e.told {
		e.told = position
		e.buf = fmt.Appendf(e.buf, "id: %d\n", position)
	}
	if len(e.buf) > 0 {
		e.buf = append(e.buf, '\n')
	}
}

func (e *eventStream) send(it *feed.Item) bool {
	e.told = it.Position
	e.buf = append(strconv.AppendInt(append(e.buf, "id: "...), it.Position, 10), '\n')
	e.name(it.Type)
	e.buf = append(append(e.buf, "data: "...), it.JSON...)
	e.buf = append(e.buf, "\n\n"...)
	return len(e.buf) < streamPiece || e.flush()
}

// flush sends what there is. It reports whether the reader took it.
func (e *eventStream) flush() bool {
	if len(e.buf) == 0 {
		return true
	}
	err := e.out.send(e.buf)
	e.buf = e.buf[:0]
	e.cut = err != nil
	return err == nil
}

// newFeedMetrics registers what is to be known of the streams of a feed.
func newFeedMetrics(registry *prometheus.Registry, f *feed.Feed) (cutOff prometheus.Counter, err error) {
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "passbook", Subsystem: "feed", Name: "streams", Help: "Streams of events that are open.",
	}, func() float64 { return float64(f.Streams()) })
	cutOff = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "passbook", Subsystem: "feed", Name: "cut_off_total",
		Help: "Streams of events that ended because their reader was gone or did not take what was sent.",
	})
	for _, c := range []prometheus.Collector{open, cutOff} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("httpapi: register metrics: %w", err)
		}
	}
	return cutOff, nil
}
