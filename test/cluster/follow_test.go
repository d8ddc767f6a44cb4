package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/follow"
	"passbook/internal/pgtest"
	"passbook/internal/stream"
	"passbook/test/internal/nodes"
)

// follow starts a follower that fills the log of a database; the returned function stops it and waits.
func (b *bed) follow(pool *pgxpool.Pool) (*follow.Follower, func()) {
	b.t.Helper()
	return b.followStream(pool, "PASSBOOK")
}

func (b *bed) followStream(pool *pgxpool.Pool, name string) (*follow.Follower, func()) {
	b.t.Helper()
	f, err := follow.New(follow.Config{
		Pool: pool, Conn: b.connect(), Stream: name, Appended: func() {}, Logger: quiet(), Idle: 50 * time.Millisecond,
	})
	b.check(err)
	return f, background(b.t, f.Run)
}

// awaitCopy waits until a log reaches the primary's position, and fails the test unless it is the same then.
func (b *bed) awaitCopy(pool *pgxpool.Pool) {
	b.t.Helper()
	b.await("the follower reaches the log's head", func() bool {
		head, err := eventstore.New(pool).Last(b.t.Context())
		return err == nil && head.Position >= b.head.Position
	})
	if want, got := rows(b.t, b.pool), rows(b.t, pool); !slices.Equal(want, got) {
		b.t.Fatalf("the follower's log has %d rows, the primary's %d, or they differ", len(got), len(want))
	}
}

func awaitState(b *bed, f *follow.Follower, want follow.State) {
	b.t.Helper()
	b.await("the follower is "+string(want), func() bool { return f.Status().State == want })
}

func TestFollowerHasTheSameRows(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(2500)
	_, _ = b.relay()
	b.awaitEnd()
	copied := pgtest.New(t)
	f, stop := b.follow(copied)
	b.awaitCopy(copied)
	b.await("it has caught up", func() bool { return f.Status().CaughtUp })
	for range 5 {
		b.append(20)
	}
	b.awaitCopy(copied)
	stop()
	b.append(30)
	b.awaitEnd()
	_, _ = b.follow(copied) // continues at its head
	b.awaitCopy(copied)
}

// TestFollowerReadsAMirror follows a mirror of the stream, which keeps its sequences.
func TestFollowerReadsAMirror(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(1500)
	_, _ = b.relay()
	b.awaitEnd()
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "PASSBOOK"}, Storage: jetstream.FileStorage, AllowDirect: true,
	})
	b.check(err)
	copied := pgtest.New(t)
	_, stop := b.followStream(copied, "MIRROR")
	b.awaitCopy(copied)
	b.append(20)
	b.awaitCopy(copied)
	stop()
	b.append(20)
	_, _ = b.followStream(copied, "MIRROR") // continues at its head
	b.awaitCopy(copied)
}

func TestTwoFollowersFillOneLog(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(3000)
	_, _ = b.relay()
	copied := pgtest.New(t)
	first, _ := b.follow(copied)
	second, _ := b.follow(copied)
	for range 30 {
		b.append(40)
	}
	b.awaitCopy(copied)
	for _, f := range []*follow.Follower{first, second} {
		if s := f.Status(); s.State != follow.Following {
			t.Errorf("a follower is %+v", s)
		}
	}
}

func TestFollowerWaitsForAStreamThatIsPublishedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(200)
	_, stopRelay := b.relay()
	copied := pgtest.New(t)
	f, _ := b.follow(copied)
	b.awaitCopy(copied)
	stopRelay()
	b.check(b.js.DeleteStream(t.Context(), "PASSBOOK"))
	awaitState(b, f, follow.Unavailable)
	if !f.Status().CaughtUp {
		t.Error("a follower that waits for the stream is not what it was any more")
	}
	b.append(100)
	_, _ = b.relay()
	b.awaitCopy(copied)
	awaitState(b, f, follow.Following)
}

// TestFollowerHaltsOnAnotherHistory has the primary's log go back, and a new stream begin: at the follower's head, or right
// after it, stands another event than the one it has.
func TestFollowerHaltsOnAnotherHistory(t *testing.T) {
	t.Parallel()
	for name, running := range map[string]bool{"at its head": false, "after its head": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.append(10)
			before := b.head
			b.append(10)
			_, stopRelay := b.relay()
			copied := pgtest.New(t)
			f, stop := b.follow(copied)
			b.awaitCopy(copied)
			if !running {
				stop()
			}
			stopRelay()
			_, err := b.pool.Exec(t.Context(), `delete from events where position > 10`) // as a restore does
			b.check(err)
			b.head = before
			b.append(10)
			if running {
				b.append(5)
			}
			b.check(b.js.DeleteStream(t.Context(), "PASSBOOK"))
			_, _ = b.relay()
			b.awaitEnd()
			if !running {
				f, _ = b.follow(copied)
			}
			awaitState(b, f, follow.Halted)
			if s := f.Status(); !strings.Contains(s.Error, "make this follower anew") {
				t.Errorf("the follower is %+v", s)
			}
			if got := len(rows(t, copied)); got != 20 {
				t.Errorf("the follower has %d events", got)
			}
		})
	}
}

// TestFollowerRefusesAnEventThatDoesNotFollow publishes to the stream what no relay would.
func TestFollowerRefusesAnEventThatDoesNotFollow(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*nats.Msg, *eventstore.Event){
		"another event before it": func(m *nats.Msg, _ *eventstore.Event) {
			m.Header.Set("Passbook-Previous", "11111111-1111-4111-8111-111111111111")
		},
		"another position":            func(m *nats.Msg, e *eventstore.Event) { e.Position++; m.Data, _ = encode(e) },
		"a version that exists":       func(m *nats.Msg, e *eventstore.Event) { e.Version--; m.Data, _ = encode(e) },
		"something else, not a relay": func(m *nats.Msg, _ *eventstore.Event) { m.Data = []byte(`{"hello":"world"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.append(5)
			_, stop := b.relay()
			b.awaitEnd()
			stop()
			copied := pgtest.New(t)
			f, _ := b.follow(copied)
			b.awaitCopy(copied)
			previous := b.head.EventID
			all, err := b.store.Select(t.Context(), 4, 5, eventstore.Selection{}, 1)
			b.check(err)
			e := all[0]
			e.Position, e.Version, e.EventID = 6, 6, uuid.New()
			body, err := encode(&e)
			b.check(err)
			msg := stream.NewMessage(&e, previous, body)
			spoil(msg, &e)
			_, err = b.js.PublishMsg(t.Context(), msg)
			b.check(err)
			awaitState(b, f, follow.Halted)
			if got := len(rows(t, copied)); got != 5 {
				t.Errorf("the follower has %d events", got)
			}
		})
	}
}

func TestFollowerWaitsForNATS(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(3)
	_, _ = b.relay()
	copied := pgtest.New(t)
	f, _ := b.follow(copied)
	b.awaitCopy(copied)
	b.node.Kill()
	b.append(3)
	awaitState(b, f, follow.Unavailable)
	b.check(b.node.Start())
	b.awaitCopy(copied)
	if s := f.Status(); !s.CaughtUp {
		t.Errorf("the follower is %+v", s)
	}
}

// TestFollowerWithoutAPartition has no partition for the next event, as while the database is too busy to make one. It waits.
func TestFollowerWithoutAPartition(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.append(20)
	_, _ = b.relay()
	copied := pgtest.New(t)
	_, err := copied.Exec(t.Context(), "drop table events_1")
	b.check(err)
	f, _ := b.follow(copied)
	awaitState(b, f, follow.Unavailable)
	if s := f.Status(); !strings.Contains(s.Error, "no partition") {
		t.Errorf("%+v", s)
	}
	_, err = copied.Exec(t.Context(), "select extend_log(1000)")
	b.check(err)
	b.awaitCopy(copied)
}

// TestFollowerWithoutMessages may look at the stream, but gets no messages of it.
func TestFollowerWithoutMessages(t *testing.T) {
	t.Parallel()
	b := newBedWith(t, func(node *nodes.Node) stream.Options {
		if err := node.Configure(withUsers("ledger", "s3cret", `, permissions: { publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] } }`)); err != nil {
			t.Fatal(err)
		}
		return stream.Options{URL: as(node, "ledger", "s3cret")}
	})
	b.append(20)
	_, _ = b.relay()
	b.awaitEnd()
	f, _ := b.follow(pgtest.New(t))
	awaitState(b, f, follow.Unavailable)
	if s := f.Status(); s.Position != 0 || !strings.Contains(s.Error, "do not arrive") && !strings.Contains(s.Error, "ermission") {
		t.Errorf("%+v", s)
	}
}
