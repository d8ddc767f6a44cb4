package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/httpapi/feed"
	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

// StreamTimes bounds a stream of events. A zero field stands for 10 seconds.
type StreamTimes struct {
	// Heartbeat is how often a stream without events sends a sign of life.
	Heartbeat time.Duration
	// PieceTimeout is how long a reader may take to receive one piece, of about 32 KiB, before it is cut off.
	PieceTimeout time.Duration
}

func (t StreamTimes) orDefault() StreamTimes {
	const standard = 10 * time.Second
	if t.Heartbeat <= 0 {
		t.Heartbeat = standard
	}
	if t.PieceTimeout <= 0 {
		t.PieceTimeout = standard
	}
	return t
}

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
	for i := range page.Items {
		readingOf(r).account(page.Items[i].Subject)
	}
	readingOf(r).completed()
	upTo := strconv.FormatInt(page.UpTo, 10)
	w.Header().Set("Passbook-Position", upTo)
	if page.UpTo < page.Head {
		next := r.URL.Query()
		next.Set("after", upTo)
		w.Header().Set("Link", "<"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
	}
	write(w, http.StatusOK, "application/cloudevents-batch+json", page.JSON())
}

// errBadEventID says that a Last-Event-ID is not from this feed.
var errBadEventID = errors.New("must be the id of an event of this feed, which is a position of the log")

// parseLastEventID reads the value of a Last-Event-ID: a position, as written by a stream.
func parseLastEventID(value string) (int64, error) {
	position, err := strconv.ParseInt(value, 10, 64)
	if err != nil || position < 0 || strconv.FormatInt(position, 10) != value {
		return 0, errBadEventID
	}
	return position, nil
}

// streamStart returns the position after which a stream begins: the last one that the reader has, or else the one it asks for; a
// negative one stands for the end of the log.
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
	release, err := s.tails.take(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer release()
	stream, err := s.feed.Open(r.Context(), after, filter)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer stream.Close()
	w.Header().Set("Passbook-Position", strconv.FormatInt(stream.Position(), 10))
	out, end := s.beginStream(w, r, p.Unnamed)
	if out == nil {
		return
	}
	defer end()
	if reading := readingOf(r); reading != nil {
		reading.account(filter.Subject)
		reading.any = filter.Subject == uuid.Nil
		reading.opened()
		defer func() { reading.position = stream.Position() }()
	}
	err = out.Follow(r.Context(), stream, s.streams.Heartbeat, after < 0)
	switch {
	case err == nil:
		return
	case errors.Is(err, feed.ErrWentBack):
		err = out.WentBack(s.lastEvent(r, err))
	case isArchived(err):
		err = out.Archived(s.lastEvent(r, err))
	case !errors.Is(err, feed.ErrReaderGone):
		_ = s.explain(r, err) // logs it; the response has begun, so it can only end
	}
	if errors.Is(err, feed.ErrReaderGone) {
		s.cutOff.Inc()
	}
}

// lastEvent returns the name and the data of the event that ends a stream: the problem that a page would get.
func (s *server) lastEvent(r *http.Request, err error) (name string, data []byte) {
	p := s.explain(r, err)
	_, data = problemText(p, exchangeOf(r.Context()).requestID)
	return p.body.Code, data
}

// beginStream begins a response of server-sent events. The writer is nil for a HEAD request. The caller calls end after the last
// event.
func (s *server) beginStream(w http.ResponseWriter, r *http.Request, unnamed bool) (out *feed.Writer, end func()) {
	h := w.Header()
	h.Set("Content-Type", request.EventStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer events
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil, nil
	}
	stream := newStreamWriter(w, s.streams.PieceTimeout)
	_ = stream.conn.SetReadDeadline(time.Time{}) // the server's read timeout would end the stream
	return feed.NewWriter(stream.send, unnamed), stream.end
}

// newFeedMetrics registers the metrics of the streams of a feed.
func newFeedMetrics(registry *prometheus.Registry, f *feed.Feed) (cutOff prometheus.Counter, err error) {
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "passbook", Subsystem: "feed", Name: "streams", Help: "Open streams of events.",
	}, func() float64 { return float64(f.Streams()) })
	cutOff = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "passbook", Subsystem: "feed", Name: "cut_off_total",
		Help: "Streams of events that ended because the reader had disconnected or was too slow.",
	})
	for _, c := range []prometheus.Collector{open, cutOff} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("httpapi: register metrics: %w", err)
		}
	}
	return cutOff, nil
}
