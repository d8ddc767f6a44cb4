package httpapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/feed"
)

// An EventSource that sets only onmessage sees events without a name; some readers take an id without data for an empty event.
func TestUnnamedEvents(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(3)
	a := serve(t, &service{feed: feed.Config{Log: l, Poll: time.Millisecond}})
	for path, want := range map[string]string{
		"/events?after=0&unnamed=true": "", "/events?after=0&unnamed=false": "MoneyDeposited", "/events?after=0": "MoneyDeposited",
		"/projections/balances/replays/" + replayID.String():                   "progress",
		"/projections/balances/replays/" + replayID.String() + "?unnamed=true": "",
	} {
		stream := a.follow(path)
		if strings.HasPrefix(path, "/events") {
			if first, _ := stream.next(); first != (sent{}) {
				t.Errorf("%s begins with %+v", path, first)
			}
		}
		if first, _ := stream.next(); first.event != want || first.data == "" {
			t.Errorf("%s: %+v", path, first)
		}
	}
	if first, _ := a.follow("/events", "Last-Event-ID", "3").next(); first.id != "" {
		t.Errorf("told what it said itself: %+v", first)
	}
	if first, _ := a.follow("/events").next(); first.id != "3" {
		t.Errorf("not told where it began: %+v", first)
	}
	if got := a.send("GET", "/events?unnamed=1", ""); got.status != http.StatusBadRequest {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// TestEventsOfALogThatWentBack expects an open stream, and a page and a stream that begin beyond the end of the log, to end with
// the same problem.
func TestEventsOfALogThatWentBack(t *testing.T) {
	t.Parallel()
	l := &events{data: `{"amount": "12.34", "currency": "EUR"}`}
	l.head.Store(1000)
	a := serve(t, &service{feed: feed.Config{Log: l, Poll: time.Millisecond}})
	ends := func(s *source, what string) {
		t.Helper()
		for {
			block, ok := s.next()
			switch {
			case !ok:
				t.Errorf("%s: it ends without a problem", what)
				return
			case block.event == "log-went-back":
				var p struct{ Code, Detail string }
				if err := json.Unmarshal([]byte(block.data), &p); err != nil || p.Code != "log-went-back" || !strings.Contains(p.Detail, "Either it is a typo, or the log has lost") || block.id != "" {
					t.Errorf("%s: %+v", what, block)
				}
				if more, ok := s.next(); ok {
					t.Errorf("%s: after its end: %+v", what, more)
				}
				return
			}
		}
	}
	open := a.follow("/events?after=990")
	open.take(991, 10)
	l.head.Store(995)
	ends(open, "an open stream")
	ends(a.follow("/events?after=996"), "after the end")
	ends(a.follow("/events", "Last-Event-ID", "1000"), "resumed after the end")
	for _, path := range []string{"/events?after=996", "/events?after=9223372036854775807"} {
		got := a.send("GET", path, "")
		if code, _ := got.problem(t); got.status != 409 || code != "log-went-back" {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	a.follow("/events?after=990").take(991, 5)
}
