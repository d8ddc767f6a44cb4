package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/relay"
	"passbook/internal/stream"
)

// checkStream fails the test unless the stream has exactly the log.
func (b *bed) checkStream() {
	b.t.Helper()
	ctx := b.t.Context()
	b.awaitEnd()
	want, err := b.store.Select(ctx, 0, b.head.Position, eventstore.Selection{}, int(b.head.Position)+1)
	b.check(err)
	s, err := b.js.Stream(ctx, "PASSBOOK")
	b.check(err)
	if state := s.CachedInfo().State; state.FirstSeq != 1 || state.Msgs != uint64(len(want)) {
		b.t.Fatalf("the stream has %d messages from %d, the log %d events", state.Msgs, state.FirstSeq, len(want))
	}
	previous := uuid.Nil
	for i := range want {
		msg, err := s.GetMsg(ctx, uint64(i+1))
		b.check(err)
		got, err := stream.Parse(msg.Sequence, msg.Subject, msg.Header, msg.Data)
		b.check(err)
		w := &want[i]
		if got.Position != w.Position || got.StreamID != w.StreamID || got.Version != w.Version || got.EventID != w.EventID ||
			got.Type != w.Type || got.SchemaVersion != w.SchemaVersion || string(got.Payload) != string(w.Payload) ||
			string(got.Metadata) != string(w.Metadata) || !got.RecordedAt.Equal(w.RecordedAt) || got.Previous != previous {
			b.t.Fatalf("message %d is\n%+v\nfor\n%+v", i+1, got, w)
		}
		previous = w.EventID
	}
}

func TestRelayPublishesTheLog(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(2500) // several batches
	r, stop := b.relay()
	b.awaitEnd()
	b.append(1)
	b.awaitEnd()
	b.append(3)
	b.checkStream()
	if s := r.Status(); s.State != relay.Publishing || s.Published != 2504 || s.Republished != 0 || s.Refused != 0 || s.Position != 2504 {
		t.Errorf("the relay is %+v", s)
	}
	stop()
	b.append(5)
	_, _ = b.relay() // needs nothing but the stream
	b.checkStream()
	s, err := b.js.Stream(t.Context(), "PASSBOOK")
	b.check(err)
	if c := s.CachedInfo().Config; !c.DenyDelete || !c.DenyPurge || c.Discard != jetstream.DiscardNew || c.Storage != jetstream.FileStorage {
		t.Errorf("the stream is %+v", c)
	}
}

func TestOneOfTwoRelaysPublishes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(1)
	first, stopFirst := b.relay()
	second, stopSecond := b.relay()
	b.awaitEnd()
	for range 20 {
		b.append(50)
		b.awaitEnd()
	}
	b.checkStream()
	b.await("one stands by", func() bool {
		b.append(1)
		b.awaitEnd()
		return (first.Status().State == relay.StandingBy) != (second.Status().State == relay.StandingBy)
	})
	standby := second
	if first.Status().State == relay.StandingBy {
		standby = first
		stopSecond()
	} else {
		stopFirst()
	}
	b.append(7)
	b.checkStream()
	if s := standby.Status(); s.State != relay.Publishing {
		t.Errorf("the relay that stood by is %+v", s)
	}
}

func TestRelayPublishesAgainWhatTheStreamLost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(40)
	r, _ := b.relay()
	b.awaitEnd()
	b.check(b.js.DeleteStream(t.Context(), "PASSBOOK"))
	b.append(2)
	b.checkStream()
	if s := r.Status(); s.Republished != 40 || s.Published != 82 {
		t.Errorf("the relay is %+v", s)
	}
}

func TestRelayHaltsWhenTheLogHasGoneBack(t *testing.T) {
	t.Parallel()
	for name, grow := range map[string]int{"the stream is ahead": 0, "another event is there": 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.append(10)
			first := b.head
			b.append(10)
			_, stop := b.relay()
			b.awaitEnd()
			stop()
			_, err := b.pool.Exec(t.Context(), `delete from events where position > 10`) // as a restore does
			b.check(err)
			b.head = first
			if grow > 0 {
				b.append(grow)
			}
			r, _ := b.relay()
			b.await("the relay halts", func() bool { return r.Status().State == relay.Halted })
			if s := r.Status(); !strings.Contains(s.Error, "PASSBOOK_RELAY_STREAM") {
				t.Errorf("the relay is %+v", s)
			}
			if end := b.end(); end != 20 {
				t.Errorf("the stream ends at %d", end)
			}
		})
	}
}

func TestRelayWaitsForNATS(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(3)
	r, _ := b.relay()
	b.awaitEnd()
	b.node.Kill()
	b.append(3)
	b.await("the relay notices", func() bool { return r.Status().State == relay.Unavailable })
	b.check(b.node.Start())
	b.checkStream()
}

// TestRelayRefusesAStreamThatIsNoCopy checks that a relay publishes to no stream that would lose messages, or has others.
func TestRelayRefusesAStreamThatIsNoCopy(t *testing.T) {
	t.Parallel()
	subjects := []string{"passbook.events.>"}
	for name, config := range map[string]jetstream.StreamConfig{
		"limits":         {Name: "PASSBOOK", Subjects: subjects, MaxAge: time.Hour, AllowAtomicPublish: true},
		"no batches":     {Name: "PASSBOOK", Subjects: subjects},
		"other subjects": {Name: "OTHER", Subjects: subjects, AllowAtomicPublish: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.append(2)
			_, err := b.js.CreateStream(t.Context(), config)
			b.check(err)
			r, _ := b.relay()
			b.await("the relay halts", func() bool { return r.Status().State == relay.Halted })
		})
	}
}
