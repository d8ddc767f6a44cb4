package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

// audit compares what was acknowledged with the log, and the log with the stream and the followers.
func (w *world) audit(ctx context.Context, l *load, out io.Writer) error {
	if err := w.catchUp(ctx, w.followers); err != nil {
		return err
	}
	var log []uuid.UUID
	lost := 0
	pages, err := w.primaries[0].pages(ctx)
	if err != nil {
		return err
	}
	for _, page := range pages {
		var events []struct {
			ID uuid.UUID `json:"id"`
		}
		if err := json.Unmarshal(page, &events); err != nil {
			return err
		}
		for _, e := range events {
			log = append(log, e.ID)
		}
	}
	for id, position := range l.acknowledged {
		if position < 1 || position > int64(len(log)) || log[position-1] != id {
			lost++
		}
	}
	// A key makes each command one event, so what is in the log beyond the acknowledged are the commands whose client was stopped.
	fmt.Fprintf(out, "%d deposits acknowledged, of %d requests; %d events in the log; %d lost\n", len(l.acknowledged), l.attempts, len(log), lost)
	if lost > 0 {
		return fmt.Errorf("%d acknowledged deposits are not in the log at their position", lost)
	}
	if err := w.auditStream(ctx, log); err != nil {
		return err
	}
	fmt.Fprintf(out, "the stream has these %d events once each, in their order\n", len(log))
	for _, p := range w.followers {
		copied, err := p.pages(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(bytes.Join(copied, nil), bytes.Join(pages, nil)) {
			return fmt.Errorf("%s: its events are not the primary's", p.name)
		}
		for _, path := range []string{"/totals", "/accounts?limit=100"} {
			want, _ := w.primaries[0].get(ctx, path)
			if got, _ := p.get(ctx, path); want == nil || !bytes.Equal(got, want) {
				return fmt.Errorf("%s: %s is\n%s\nand the primary's\n%s", p.name, path, got, want)
			}
		}
		if err := p.refuses(ctx, w.primaries[0].url); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: the same events, balances and totals at position %d; it takes no commands\n", p.name, len(log))
	}
	return nil
}

// auditStream reads the whole stream.
func (w *world) auditStream(ctx context.Context, log []uuid.UUID) error {
	var s jetstream.Stream
	if err := nodes.Await(ctx, patience, "the stream has all events", func() (ok bool) {
		var err error
		s, err = w.js.Stream(ctx, streamName)
		return err == nil && s.CachedInfo().State.LastSeq >= uint64(len(log))
	}); err != nil {
		return err
	}
	if state := s.CachedInfo().State; state.FirstSeq != 1 || state.Msgs != uint64(len(log)) {
		return fmt.Errorf("the stream has %d messages, from %d to %d, for %d events", state.Msgs, state.FirstSeq, state.LastSeq, len(log))
	}
	previous := uuid.Nil
	for next, tries := 0, 0; next < len(log); tries++ {
		if tries == maxTries {
			return fmt.Errorf("the stream sends nothing after sequence %d", next)
		}
		if err := readStream(ctx, s, log, &next, &previous); err != nil {
			return err
		}
	}
	return nil
}

// maxTries is how many consumers may fall silent: NATS may place one on a server that has not caught up since it was stopped.
const maxTries = 12

// readStream compares the messages after a sequence with the log, until they end or none comes for a while.
func readStream(ctx context.Context, s jetstream.Stream, log []uuid.UUID, next *int, previous *uuid.UUID) error {
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(*next) + 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for ; *next < len(log); *next++ {
		msg, err := messages.Next(jetstream.NextMaxWait(5 * time.Second))
		if err != nil {
			return nil // the caller tries again
		}
		about, err := msg.Metadata()
		if err != nil {
			return err
		}
		e, err := stream.Parse(about.Sequence.Stream, msg.Subject(), msg.Headers(), msg.Data())
		if err != nil {
			return err
		}
		if about.Sequence.Stream != uint64(*next+1) || e.EventID != log[*next] || e.Previous != *previous {
			return fmt.Errorf("the message with sequence %d has event %s after %s; the log has %s at position %d",
				about.Sequence.Stream, e.EventID, e.Previous, log[*next], *next+1)
		}
		*previous = e.EventID
	}
	return nil
}

// pages returns all of GET /events.
func (p *process) pages(ctx context.Context) ([][]byte, error) {
	var all [][]byte
	for after := "0"; ; {
		page, header := p.get(ctx, "/events?limit=1000&after="+after)
		if page == nil {
			return nil, fmt.Errorf("%s: the events after %s cannot be read", p.name, after)
		}
		if len(page) > 2 {
			all = append(all, page)
		}
		if !strings.Contains(header.Get("Link"), `rel="next"`) {
			return all, nil
		}
		after = header.Get("Passbook-Position")
	}
}

// refuses checks that a follower takes no command, and says where to send it.
func (p *process) refuses(ctx context.Context, primary string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/accounts", strings.NewReader(`{"owner":"Eve","currency":"EUR"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var problem struct {
		Code       string `json:"code"`
		PrimaryURL string `json:"primary_url"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusMisdirectedRequest || problem.Code != "not-primary" || problem.PrimaryURL != primary {
		return fmt.Errorf("%s: a command got %d %+v", p.name, resp.StatusCode, problem)
	}
	return nil
}
