package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

// audit compares what was acknowledged with the log, and the log with the stream and the followers.
func (w *world) audit(ctx context.Context, l *load, out io.Writer) error {
	if err := w.catchUp(ctx, w.all()); err != nil {
		return err
	}
	log, err := w.primaries[0].ids(ctx)
	if err != nil {
		return err
	}
	if err := l.audit(log, out); err != nil {
		return err
	}
	if err := w.auditStream(ctx, log, out); err != nil {
		return err
	}
	for _, p := range w.followers {
		equal, err := w.runServer(ctx, filepath.Join(w.dir, p.name), "verify", "--against", w.primaries[0].url)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if want := fmt.Sprintf("up to position %d (", len(log)); !strings.Contains(equal, want) || strings.Contains(equal, "more") {
			return fmt.Errorf("%s: server verify --against says %q; the primary's log ends at %d", p.name, equal, len(log))
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
		fmt.Fprintf(out, "%s: server verify --against: %s; the same balances and totals; it takes no commands\n", p.name, equal)
	}
	return nil
}

// audit compares what was acknowledged with the ids of the log's events.
func (l *load) audit(log []uuid.UUID, out io.Writer) error {
	count := make(map[uuid.UUID]int, len(log))
	for _, id := range log {
		count[id]++
	}
	lost, twice, undone := 0, len(log)-len(count), 0
	for id, r := range l.acknowledged {
		switch {
		case l.undone(r):
			undone++
			if count[id] > 0 {
				return fmt.Errorf("the event %s, acknowledged at position %d, is in the log although a restore has undone it", id, r.position)
			}
		case r.position < 1 || r.position > int64(len(log)) || log[r.position-1] != id:
			lost++
		}
	}
	// A key makes each command one event, so what is in the log beyond the acknowledged are the commands whose client was stopped.
	fmt.Fprintf(out, "%d deposits acknowledged, of %d requests; %d of them undone by %d restores, being later than the backup\n",
		len(l.acknowledged), l.attempts, undone, len(l.restores))
	fmt.Fprintf(out, "%d events in the log; %d lost, %d twice\n", len(log), lost, twice)
	if extra := len(log) - (len(l.acknowledged) - undone); lost > 0 || twice > 0 || extra < 0 {
		return fmt.Errorf("%d acknowledged deposits are not in the log at their position, %d events are in it twice", lost, twice)
	}
	return nil
}

// auditStream reads the whole stream.
func (w *world) auditStream(ctx context.Context, log []uuid.UUID, out io.Writer) error {
	var s jetstream.Stream
	if err := nodes.Await(ctx, patience, "the stream has all events", func() (ok bool) {
		var err error
		s, err = w.js.Stream(ctx, w.stream)
		return err == nil && s.CachedInfo().State.LastSeq >= uint64(len(log))
	}); err != nil {
		return err
	}
	if state := s.CachedInfo().State; state.FirstSeq != 1 || state.Msgs != uint64(len(log)) {
		return fmt.Errorf("the stream has %d messages, from %d to %d, for %d events", state.Msgs, state.FirstSeq, state.LastSeq, len(log))
	}
	if err := w.awaitReplicas(ctx); err != nil {
		return err
	}
	r := reader{log: log}
	progress := time.Now()
	for len(r.silent) == 0 || time.Since(progress) < patience {
		before := r.next
		done, err := r.read(ctx, s)
		switch {
		case err != nil:
			return err
		case done:
			fmt.Fprintf(out, "the stream %s has these %d events once each, in order: sequence = position\n", w.stream, len(log))
			for _, why := range r.silent {
				fmt.Fprintf(out, "  a consumer of it fell silent %s\n", why)
			}
			return nil
		case r.next > before:
			progress = time.Now()
		}
	}
	return fmt.Errorf("for %v the stream sends nothing after sequence %d: %s", patience, r.next, strings.Join(r.silent, "; "))
}

// reader compares the messages of a stream with the log.
type reader struct {
	log      []uuid.UUID
	next     int // index of the next event
	previous uuid.UUID
	silent   []string // the consumers that sent nothing for a while: where, and why
}

// read reads the messages after those it has read, and reports whether it has come to the end. It returns false if
// a consumer sends nothing for a while.
func (r *reader) read(ctx context.Context, s jetstream.Stream) (bool, error) {
	consumer, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(r.next) + 1,
	})
	if err != nil {
		r.fellSilent(ctx, nil, err)
		return false, nil
	}
	messages, err := consumer.Messages()
	if err != nil {
		r.fellSilent(ctx, consumer, err)
		return false, nil
	}
	defer messages.Stop()
	for ; r.next < len(r.log); r.next++ {
		msg, err := messages.Next(jetstream.NextMaxWait(2 * time.Second))
		if err != nil {
			r.fellSilent(ctx, consumer, err)
			return false, nil
		}
		if err := r.compare(msg); err != nil {
			return false, err
		}
	}
	return true, nil
}

// fellSilent notes what the server says about a consumer that sent nothing. Without a request, the client's was lost: sent right after
// the consumer was made, it can arrive at a server that has not heard of the consumer yet, and NATS drops it. The client would
// notice only after 30 s, by missing heartbeats.
func (r *reader) fellSilent(ctx context.Context, c jetstream.Consumer, err error) {
	where := "that was not made"
	if c != nil {
		where = "that no server knows"
		if info, err := c.Info(ctx); err == nil && info.Cluster != nil {
			where = fmt.Sprintf("on %s, which had %d requests for messages and had sent up to sequence %d",
				info.Cluster.Leader, info.NumWaiting, info.Delivered.Stream)
		}
	}
	r.silent = append(r.silent, fmt.Sprintf("%s, after sequence %d: %v", where, r.next, err))
}

func (r *reader) compare(msg jetstream.Msg) error {
	about, err := msg.Metadata()
	if err != nil {
		return err
	}
	e, err := stream.Parse(about.Sequence.Stream, msg.Subject(), msg.Headers(), msg.Data())
	if err != nil {
		return err
	}
	if about.Sequence.Stream != uint64(r.next+1) || e.EventID != r.log[r.next] || e.Previous != r.previous {
		return fmt.Errorf("the message with sequence %d has event %s after %s; the log has %s at position %d",
			about.Sequence.Stream, e.EventID, e.Previous, r.log[r.next], r.next+1)
	}
	r.previous = e.EventID
	return nil
}

// ids returns the ids of all events in the log.
func (p *process) ids(ctx context.Context) ([]uuid.UUID, error) {
	var all []uuid.UUID
	for after := "0"; ; {
		page, header := p.get(ctx, "/events?limit=1000&after="+after)
		if page == nil {
			return nil, fmt.Errorf("%s: the events after %s cannot be read", p.name, after)
		}
		var events []struct {
			ID uuid.UUID `json:"id"`
		}
		if err := json.Unmarshal(page, &events); err != nil {
			return nil, err
		}
		for _, e := range events {
			all = append(all, e.ID)
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
