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

// FromNow has a stream begin at the end of the log.
const FromNow int64 = -1

// silence is after how long without a word a stream is taken for dead. The server sends something every 10 seconds.
const silence = 30 * time.Second

// streamOrProblem takes server-sent events. With them alone a server that cannot serve a stream now would answer with an
// empty one.
const streamOrProblem = "text/event-stream, application/problem+json"

// EventFilter selects events; the zero value selects all.
type EventFilter struct {
	// Type is that of the events; all when empty.
	Type EventType
	// Account is the one whose events they are; all when it is the zero id.
	Account uuid.UUID
}

// Events goes through the log after a position, in order, to its end. An error ends it.
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

// Follow goes through the log after a position, or [FromNow], and on as events are recorded, until the context ends or the
// caller stops. A connection that breaks is opened again where it was, so that no event is missed and none comes twice. It
// ends with an error, which is the context's, or what the server refuses, or that it was away for longer than the client
// is patient. A [Problem] of code "log-went-back" says that the log has lost its end, and events that were read with it.
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

// follow reads one stream to its end, and keeps in after how far it has got.
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
		if m.event == "log-went-back" {
			return false, problemOf(http.StatusConflict, m.data)
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
			*after = position // where the stream begins, or what a filter has passed over
		}
	}
	return false, ctx.Err()
}

// message is a server-sent event; one without data only says where the stream is.
type message struct {
	id, event string
	data      []byte // until the next one
}

// messages reads a stream to its end, however it ends, and closes it. Cancel is called when it has been silent for too
// long, which ends it.
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
