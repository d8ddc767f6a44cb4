package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// FromNow begins a stream at the end of the log.
const FromNow int64 = -1

// silence is how long a stream may be silent before it counts as dead. The server sends something every 10 seconds.
const silence = 30 * time.Second

// streamOrProblem accepts server-sent events and problems. If only the former were accepted, a server that cannot serve a
// stream now would return an empty one.
const streamOrProblem = "text/event-stream, application/problem+json"

// EventFilter selects events; the zero value selects all.
type EventFilter struct {
	// Type is the events' type; all if empty.
	Type EventType
	// Account is the account whose events to select; all if it is the zero id.
	Account uuid.UUID
}

// Events iterates over the log after a position, in order, to its end. It stops at an error.
func (c *Client) Events(ctx context.Context, after int64, filter EventFilter) iter.Seq2[CloudEvent, error] {
	return func(yield func(CloudEvent, error) bool) {
		for {
			params := &listEventsParams{After: after, Limit: 1000, Type: filter.Type, Subject: filter.Account}
			req, err := newListEventsRequest(ctx, c.base, params)
			page, header, err := ask[[]CloudEvent](c, again, req, err)
			if err == nil {
				after, err = strconv.ParseInt(header.Get("Passbook-Position"), 10, 64)
			}
			if err != nil {
				yield(CloudEvent{}, err)
				return
			}
			for i := range *page {
				if !yield((*page)[i], nil) {
					return
				}
			}
			if !strings.Contains(header.Get("Link"), `rel="next"`) {
				return
			}
		}
	}
}

// Follow iterates over the log after a position, or [FromNow], and over new events as they are recorded, until the context
// ends or the caller stops. It resumes a broken connection at its position, so that no event is missed or repeated. It ends
// with an error: the context's, a [Problem] if the server refuses, or the last failure once the server has been unavailable
// for longer than [WithRetryFor]. A [Problem] with code "log-went-back" means that the log has lost its tail, and with it
// events that were read. One with code "events-archived" means that events after the position are in an archive; its FirstPosition is
// the first from which on the log has all.
func (c *Client) Follow(ctx context.Context, after int64, filter EventFilter) iter.Seq2[CloudEvent, error] {
	return func(yield func(CloudEvent, error) bool) {
		for {
			over, err := c.follow(ctx, &after, filter, func(e CloudEvent) bool { return yield(e, nil) })
			if err == nil && !over {
				err = pause(ctx, firstPause)
			}
			if err != nil {
				yield(CloudEvent{}, err)
				return
			}
			if over {
				return
			}
		}
	}
}

// follow reads one stream to its end, and keeps its position in after.
func (c *Client) follow(ctx context.Context, after *int64, filter EventFilter, tell func(CloudEvent) bool) (over bool, err error) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	params := &listEventsParams{Type: filter.Type, Subject: filter.Account}
	if *after >= 0 {
		params.LastEventID = strconv.FormatInt(*after, 10)
	}
	req, err := newListEventsRequest(reading, c.base, params)
	if err != nil {
		return false, fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Accept", streamOrProblem)
	got, err := c.open(req)
	if err != nil {
		return false, err
	}
	for m := range messages(got.stream, cancel) {
		switch m.event {
		case "log-went-back":
			return false, problemOf(http.StatusConflict, m.data)
		case "events-archived":
			return false, problemOf(http.StatusGone, m.data)
		}
		if len(m.data) > 0 {
			var e CloudEvent
			if err := json.Unmarshal(m.data, &e); err != nil {
				return false, fmt.Errorf("client: event: %w", err)
			}
			*after = int64(e.Position)
			if !tell(e) {
				return true, nil
			}
			continue
		}
		if position, err := strconv.ParseInt(m.id, 10, 64); err == nil {
			*after = position // where the stream begins, or the end of what a filter skipped
		}
	}
	return false, ctx.Err()
}

// message is a server-sent event; one without data only has the stream's position.
type message struct {
	id, event string
	data      []byte // until the next one
}

// messages reads a stream to its end, however it ends, and closes it. It calls cancel, which ends the stream, after too long
// a silence.
func messages(stream io.ReadCloser, cancel context.CancelFunc) iter.Seq[message] {
	return func(yield func(message) bool) {
		defer func() { _ = stream.Close() }()
		alarm := time.AfterFunc(silence, cancel)
		defer alarm.Stop()
		lines := bufio.NewScanner(stream)
		lines.Buffer(make([]byte, 0, 8<<10), 16<<20)
		var m message
		var some bool
		for lines.Scan() {
			alarm.Reset(silence)
			name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(name) {
			case "id":
				m.id, some = string(value), true
			case "event":
				m.event = string(value)
			case "data":
				if len(m.data) > 0 {
					m.data = append(m.data, '\n')
				}
				m.data, some = append(m.data, value...), true
			case "":
				if len(lines.Bytes()) == 0 && some {
					if !yield(m) {
						return
					}
					m.event, m.data, some = "", m.data[:0], false
				}
			}
		}
	}
}
