package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/uuid"

	"passbook/internal/httpapi/feed"
)

// events is a log in memory. It holds deposits whose positions are their versions.
type events struct {
	head        atomic.Int64
	data        string
	unavailable atomic.Bool
}

func (l *events) Look(_ context.Context, seen feed.Point) (head feed.Point, held bool, err error) {
	if l.unavailable.Load() {
		return head, false, errUnavailable
	}
	head.Position = l.head.Load()
	return head, seen.Position <= head.Position, nil
}

func (l *events) Read(_ context.Context, after, upTo int64, f feed.Filter, limit int) ([]feed.Event, error) {
	var all []feed.Event
	for p := after + 1; p <= upTo && len(all) < limit; p++ {
		if f.Type != "" && f.Type != "MoneyDeposited" || f.Subject != uuid.Nil && f.Subject != accountID {
			continue
		}
		all = append(all, feed.Event{
			Position: p, ID: uuid.NewSHA1(accountID, strconv.AppendInt(nil, p, 10)), Subject: accountID, Version: p,
			Type: "MoneyDeposited", SchemaVersion: 1, Data: []byte(l.data), RecordedAt: moment,
			CorrelationID: `an "id"`, CausationID: "cause", Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		})
	}
	return all, nil
}

// serveFeed makes the feed for a harness and runs it until the test ends.
func serveFeed(t *testing.T, s *service) *feed.Feed {
	t.Helper()
	c := s.feed
	if c.Log == nil {
		c.Log = &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	}
	c.Logger = slog.New(slog.DiscardHandler)
	c.Transient = func(err error) bool { return errors.Is(err, errUnavailable) }
	f := feed.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	t.Cleanup(func() { f.Stop(); cancel(); <-done })
	return f
}

func TestPageOfEvents(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(250)
	a := serve(t, &service{feed: feed.Config{Log: l}})
	for path, want := range map[string]struct {
		items          int
		position, link string
	}{
		"/events":                                          {100, "100", `</events?after=100>; rel="next"`},
		"/events?limit=3&after=7":                          {3, "10", `</events?after=10&limit=3>; rel="next"`},
		"/events?after=200":                                {50, "250", ""},
		"/events?after=250":                                {0, "250", ""},
		"/events?type=AccountClosed":                       {0, "250", ""},
		"/events?subject=" + eventID.String():              {0, "250", ""},
		"/events?limit=1000&type=MoneyDeposited&after=249": {1, "250", ""},
	} {
		got := a.send("GET", path, "")
		var all []json.RawMessage
		if err := json.Unmarshal([]byte(got.text), &all); err != nil || got.status != 200 {
			t.Fatalf("%s: %d %s", path, got.status, got.text)
		}
		if len(all) != want.items || got.header.Get("Passbook-Position") != want.position || got.header.Get("Link") != want.link ||
			got.header.Get("Content-Type") != "application/cloudevents-batch+json" {
			t.Errorf("%s: %d events, %v", path, len(all), got.header)
		}
	}
	for path, parameter := range map[string]string{
		"/events?after=-1": "after", "/events?after=1.5": "after", "/events?after=": "after", "/events?limit=0": "limit", "/events?limit=1001": "limit",
		"/events?type=Nothing": "type", "/events?type=": "type", "/events?subject=1": "subject", "/events?subject=": "subject",
		"/events?subject=urn:uuid:" + accountID.String(): "subject", "/events?who=me": "who", "/events?after=1&after=2": "after",
	} {
		got := a.send("GET", path, "")
		code, errs := got.problem(t)
		if got.status != 400 || code != "invalid-parameter" || errs[parameter] == "" {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	l.unavailable.Store(true)
	if got := a.send("GET", "/events", ""); got.status != 503 || got.header.Get("Retry-After") == "" {
		t.Errorf("unavailable: %d %s", got.status, got.text)
	}
}

// Events refer to the schema of their data, which the service serves.
func TestSchemaOfAnEvent(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	got := a.send("GET", "/schemas/MoneyDeposited/1", "")
	var schema struct {
		ID       string `json:"$id"`
		Required []string
	}
	if err := json.Unmarshal([]byte(got.text), &schema); err != nil || got.header.Get("Content-Type") != "application/schema+json" ||
		schema.ID != "urn:passbook:schema:MoneyDeposited/1" || !slices.Equal(schema.Required, []string{"amount", "currency"}) {
		t.Errorf("%v %s", got.header, got.text)
	}
	if got := a.send("GET", "/schemas/MoneyDeposited/1", "", "If-None-Match", got.header.Get("ETag")); got.status != 304 {
		t.Errorf("with the ETag: %d", got.status)
	}
	for path, want := range map[string]int{
		"/schemas/MoneyDeposited/9": 404, "/schemas/Nothing/1": 400, "/schemas/MoneyDeposited/0": 400, "/schemas/MoneyDeposited/x": 400, "/schemas/MoneyDeposited": 404,
	} {
		if got := a.send("GET", path, ""); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
}

// checkCloudEvent compares what the CloudEvents SDK reads with the event that was sent.
func checkCloudEvent(t *testing.T, e *event.Event, position int64) {
	t.Helper()
	if err := e.Validate(); err != nil {
		t.Errorf("position %d: %v", position, err)
	}
	digits := strconv.FormatInt(position, 10)
	if e.SpecVersion() != "1.0" || e.Type() != "MoneyDeposited" || e.Source() != "/passbook" || e.Subject() != accountID.String() ||
		e.DataSchema() != "urn:passbook:schema:MoneyDeposited/1" || e.ID() != uuid.NewSHA1(accountID, []byte(digits)).String() || !e.Time().Equal(moment) || e.DataContentType() != "application/json" {
		t.Errorf("position %d: %v", position, e)
	}
	for name, want := range map[string]any{
		"position": digits, "version": digits, "schemaversion": int32(1), "correlationid": `an "id"`, "causationid": "cause",
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	} {
		if got := e.Extensions()[name]; got != want {
			t.Errorf("position %d: %s is %v (%T)", position, name, got, got)
		}
	}
	var data struct {
		Amount, Currency string
	}
	if err := e.DataAs(&data); err != nil || data.Amount != "12.34" || data.Currency != "EUR" {
		t.Errorf("position %d: data %s: %v", position, e.Data(), err)
	}
}

func TestCloudEventsSDKReadsABatch(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(3_000_000_000) // more than a CloudEvents integer holds
	a := serve(t, &service{feed: feed.Config{Log: l}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/events?after=2999999995", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := a.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	batch, err := cehttp.NewEventsFromHTTPResponse(response)
	if err != nil || len(batch) != 5 {
		t.Fatalf("%d events, %v", len(batch), err)
	}
	for i := range batch {
		checkCloudEvent(t, &batch[i], 2_999_999_996+int64(i))
	}
}

// source reads server-sent events.
type source struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Scanner
}

type sent struct{ id, event, data, comment string }

// follow opens a stream that ends with the test.
func (a *harness) follow(path string, headers ...string) *source {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 5*time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	return &source{t: a.t, response: response, lines: bufio.NewScanner(response.Body)}
}

// next reads one block; ok is false when the stream has ended.
func (s *source) next() (block sent, ok bool) {
	for s.lines.Scan() {
		line := s.lines.Text()
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			return block, true
		case name == "id":
			block.id = value
		case name == "event":
			block.event = value
		case name == "data":
			block.data = value
		case name == "":
			block.comment = value
		}
	}
	return block, false
}

// take reads n events and checks their order.
func (s *source) take(first int64, n int) {
	s.t.Helper()
	for want := first; want < first+int64(n); {
		block, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended before position %d: %v", want, s.lines.Err())
		}
		if block.data == "" {
			continue
		}
		var e event.Event
		if err := json.Unmarshal([]byte(block.data), &e); err != nil {
			s.t.Fatalf("%s: %v", block.data, err)
		}
		if block.id != strconv.FormatInt(want, 10) || block.event != "MoneyDeposited" {
			s.t.Fatalf("%+v in place of %d", block, want)
		}
		checkCloudEvent(s.t, &e, want)
		want++
	}
}

func TestStreamOfEvents(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(1000)
	s := &service{feed: feed.Config{Log: l, Poll: time.Millisecond}}
	a := serve(t, s)

	whole := a.follow("/events?after=0")
	if h := whole.response.Header; h.Get("Content-Type") != "text/event-stream" || h.Get("Passbook-Position") != "0" ||
		h.Get("Cache-Control") != "no-store" || h.Get("X-Request-Id") == "" {
		t.Errorf("%v", h)
	}
	whole.take(1, 1000)
	tail := a.follow("/events")
	if at := tail.response.Header.Get("Passbook-Position"); at != "1000" {
		t.Errorf("without a position the stream begins after %s", at)
	}
	resumed := a.follow("/events?after=3", "Last-Event-ID", "990")
	l.head.Store(1500)
	whole.take(1001, 500)
	tail.take(1001, 500)
	resumed.take(991, 510)
}

// A stream whose filter selects nothing still advances the reader's Last-Event-ID, and sends heartbeats.
func TestQuietStream(t *testing.T) {
	t.Parallel()
	l := new(events)
	l.head.Store(120_000)
	a := serve(t, &service{feed: feed.Config{Log: l, Poll: time.Millisecond}})
	quiet := a.follow("/events?after=0&type=AccountClosed")
	beats, id := 0, ""
	for beats < 3 || id != "120000" {
		block, ok := quiet.next()
		if !ok || block.data != "" || block.event != "" {
			t.Fatalf("%+v, %v", block, quiet.lines.Err())
		}
		if block.comment != "" {
			beats++
		}
		if block.id != "" {
			id = block.id
		}
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	a := serve(t, &service{feed: feed.Config{MaxStreams: 1, Poll: time.Millisecond}})
	first := a.follow("/events")
	first.next()
	got := a.send("GET", "/events", "", "Accept", "text/event-stream, application/problem+json")
	if code, _ := got.problem(t); got.status != 503 || code != "too-many-streams" || got.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := a.send("GET", "/events", ""); got.status != 200 { // pages are not streams
		t.Errorf("%d %s", got.status, got.text)
	}
	if text := a.send("GET", "/metrics", "").text; !strings.Contains(text, "passbook_feed_streams 1") {
		t.Error("the metrics do not tell of the stream")
	}
}

// TestEventSourceRetries requests streams that cannot be served now like an EventSource, which any status but 200 would end for
// good.
func TestEventSourceRetries(t *testing.T) {
	t.Parallel()
	starting := &service{}
	starting.starting.Store(true)
	full := &service{feed: feed.Config{MaxStreams: 1, Poll: time.Millisecond}}
	unavailable := &events{}
	unavailable.unavailable.Store(true)
	for name, test := range map[string]struct {
		service *service
		header  string
	}{
		"too many streams":            {full, ""},
		"starting":                    {starting, ""},
		"the database is unavailable": {&service{feed: feed.Config{Log: unavailable}}, ""},
		"credentials not checkable":   {&service{auth: &callers{err: errUnavailable}}, "Bearer events:read"},
		"too many requests":           {&service{rateLimit: 0.001}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := serve(t, test.service)
			switch test.service {
			case full:
				a.follow("/events").next()
			default:
				a.send("GET", "/totals", "") // uses up the rate limit
			}
			got := a.send("GET", "/events", "", "Accept", "text/event-stream", "Authorization", test.header)
			if !regexp.MustCompile(`^: .+\nretry: \d+\n\n$`).MatchString(got.text) || got.status != 200 || got.header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%d %s", got.status, got.text)
			}
			for _, other := range [][2]string{
				{"/events", "text/event-stream, application/problem+json"},
				{"/events", "text/event-stream, */*"},
				{"/events", "*/*"},
				{"/totals", "text/event-stream"},
			} {
				if test.service == full && !strings.HasPrefix(other[1], "text/event-stream,") {
					continue
				}
				if name == "the database is unavailable" && other[0] != "/events" {
					continue
				}
				if got := a.send("GET", other[0], "", "Accept", other[1], "Authorization", test.header); got.status != 503 && got.status != 429 {
					t.Errorf("%s with Accept: %s: %d %s", other[0], other[1], got.status, got.text)
				}
			}
		})
	}
}

func TestAcceptOfStreams(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, tt := range []struct {
		accept []string
		stream bool
	}{
		{nil, false},
		{[]string{"*/*"}, false},
		{[]string{"text/event-stream"}, true},
		{[]string{"application/json, TEXT/Event-Stream;q=0.5"}, true}, // the operation offers only the second
		{[]string{"application/cloudevents-batch+json, text/event-stream;q=0.5"}, false},
		{[]string{"text/event-stream;q=0.5", "application/cloudevents-batch+json"}, false},
		{[]string{"application/cloudevents-batch+json;q=0.5, text/event-stream"}, true},
		{[]string{"text/event-stream;q=0.9,application/*;q=0.8"}, true},
		{[]string{"text/event-stream;q=0.001,application/*;q=0.8"}, false},
		{[]string{"text/*"}, true},
		{[]string{"text/event-stream, */*"}, true},
		{[]string{"*/*;q=0.1, text/event-stream"}, true},
		{[]string{"text/event-stream; charset=utf-8; q=0.7, */*;q=0.1"}, false}, // that is another media type
		{[]string{"text/event-stream;q=0, text/*"}, false},
		{[]string{"application/json", "text/event-stream"}, true},
		{[]string{"text/event-stream;q=0"}, false},
		{[]string{"text/event-stream-x"}, false},
		{[]string{";;,text/"}, false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, a.url+"/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["Accept"] = tt.accept
		response, err := a.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if stream := response.Header.Get("Content-Type") == "text/event-stream"; stream != tt.stream || response.StatusCode != http.StatusOK {
			t.Errorf("%q: %d %v", tt.accept, response.StatusCode, response.Header)
		}
	}
}

func TestLastEventID(t *testing.T) {
	t.Parallel()
	a := serve(t, new(service))
	for _, id := range []string{"-1", "+1", "01", "1.0", "x", "1 2", "9223372036854775808", "１"} {
		got := a.send("GET", "/events", "", "Accept", "text/event-stream", "Last-Event-ID", id)
		if _, errs := got.problem(t); got.status != 400 || errs["Last-Event-ID"] == "" {
			t.Errorf("%q: %d %s", id, got.status, got.text)
		}
	}
}

// TestSlowReaderIsCutOff opens a stream and reads nothing from it: the stream is cut off, and others continue.
func TestSlowReaderIsCutOff(t *testing.T) { //nolint:paralleltest // it fills the heap and needs the processors
	l := &events{data: `{"amount": "12.34", "currency": "EUR", "reference": "` + strings.Repeat("x", 10_000) + `"}`}
	a := serve(t, &service{feed: feed.Config{Log: l, Poll: time.Millisecond}})
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /events?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	quick := a.follow("/events?after=0")
	quick.lines.Buffer(nil, 1<<20)
	// 20 MB, more than any socket buffers. The quick reader gets them in pieces that a socket does buffer, so that no reader waits
	// for it, however busy the machine is.
	const total, piece = 2000, 50
	for sent := int64(0); sent < total; sent += piece {
		l.head.Store(sent + piece)
		quick.take(sent+1, piece)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(a.send("GET", "/metrics", "").text, "passbook_feed_cut_off_total 1") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the slow reader is not cut off")
		}
	}
	l.head.Store(total + 1)
	quick.take(total+1, 1)
}

func TestStreamsEndWhenTheServiceStops(t *testing.T) {
	t.Parallel()
	s := new(service)
	a := serve(t, s)
	stream := a.follow("/events")
	stream.next()
	a.feed.Stop()
	if block, ok := stream.next(); ok || stream.lines.Err() != nil {
		t.Errorf("%+v, %v", block, stream.lines.Err())
	}
	if got := a.send("GET", "/events", "", "Accept", "text/event-stream, application/problem+json"); got.status != 503 {
		t.Errorf("%d %s", got.status, got.text)
	}
}
