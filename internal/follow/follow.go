package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/stream"
)

const (
	// batchSize is how many events are stored in one commit at most.
	batchSize = 1000
	// request limits a commit of events; ask limits a request to NATS, which gets no answer from a cluster without a leader, or from a
	// consumer on a server that is stopped.
	request = 10 * time.Second
	ask     = 2 * time.Second
	// consumerTTL is when NATS deletes a consumer that is no longer read.
	consumerTTL = time.Minute
	// haltedCheck is how long a halted follower waits before it tries again.
	haltedCheck = 5 * time.Second
	// retryFirst and retryMost limit the pauses between attempts while NATS or the database is unavailable.
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Second
)

// makeAnew says what to do with a log that is not a copy of the stream.
const makeAnew = "make this follower anew: stop it, remove its database (PASSBOOK_DATA_DIR, or the one of DATABASE_URL), and start it again"

// Config configures a Follower. All fields but Idle are required.
type Config struct {
	// Pool connects as the role that owns the log; the caller closes it.
	Pool *pgxpool.Pool
	// Conn is a connection from stream.Connect; the caller closes it.
	Conn *stream.Conn
	// Stream is the name of the stream.
	Stream string
	// Appended is called after each batch that was stored; it must not block.
	Appended func()
	Logger   *slog.Logger
	// Idle is how often the end of the stream is checked while no messages arrive; 0 means 1 s.
	Idle time.Duration
}

// State is what a follower does.
type State string

// The states of a follower.
const (
	Starting    State = "starting"
	Following   State = "following"
	Unavailable State = "unavailable" // NATS, the stream or the database
	Halted      State = "halted"
)

// Status is the state of a follower.
type Status struct {
	State State
	// Position is the position of the last event in the follower's log, End that of the last one in the stream when last checked.
	Position, End int64
	// CaughtUp is set once the follower has everything that was in the stream when it began to follow.
	CaughtUp bool
	// Error is why the follower is halted or what is unavailable.
	Error string
}

// Follower fills a log.
type Follower struct {
	Config
	log *eventstore.Store
	js  jetstream.JetStream

	mu     sync.Mutex
	status Status
}

// New returns a Follower, which does nothing until Run.
func New(c Config) (*Follower, error) {
	js, err := jetstream.New(c.Conn.Conn, jetstream.WithDefaultTimeout(ask))
	if err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	if c.Idle == 0 {
		c.Idle = time.Second
	}
	return &Follower{Config: c, log: eventstore.New(c.Pool), js: js, status: Status{State: Starting}}, nil
}

// Status returns the state of the follower.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// HaltedError means that the follower's log cannot be continued from the stream. Its text says what to do.
type HaltedError struct{ Reason string }

func (e *HaltedError) Error() string { return "follow: " + e.Reason }

// Run fills the log until ctx ends, and returns nil.
func (f *Follower) Run(ctx context.Context) error {
	wait, restartedAt := retryFirst, int64(-1)
	for ctx.Err() == nil {
		err := f.follow(ctx, func() { wait = retryFirst; f.set(Following, nil) })
		position := f.Status().Position
		_, halted := errors.AsType[*HaltedError](err)
		switch {
		case ctx.Err() != nil:
		case halted:
			f.set(Halted, err)
			sleep(ctx, haltedCheck)
		case errors.Is(err, errRestart) && position != restartedAt:
			restartedAt = position
			sleep(ctx, retryFirst)
		default:
			f.set(Unavailable, err)
			sleep(ctx, wait)
			wait = min(2*wait, retryMost)
		}
	}
	return nil
}

// errRestart means that the follower needs a new consumer, which begins at the log's head.
var errRestart = errors.New("follow: the stream has more events, but they do not arrive")

// set records the state with the error that led to it, and logs a change of it.
func (f *Follower) set(state State, err error) {
	err = f.Conn.Explain(err)
	f.mu.Lock()
	before := f.status.State
	f.status.State, f.status.Error = state, ""
	if err != nil {
		f.status.Error = err.Error()
	}
	position := f.status.Position
	f.mu.Unlock()
	if before == state {
		return
	}
	switch state {
	case Unavailable:
		f.Logger.Warn("the follower receives no events; retrying until NATS, the stream and the database are available", "stream", f.Stream, "error", err)
	case Halted:
		f.Logger.Error("the follower has halted", "stream", f.Stream, "error", err)
	case Following:
		f.Logger.Info("following", "stream", f.Stream, "position", position)
	case Starting:
	}
}

// seen records the position of the log's head, and the stream's end unless end is 0.
func (f *Follower) seen(position, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Position = position
	f.status.End = max(end, f.status.End, position)
	if end > 0 {
		f.status.End = end
	}
}

// caughtUp records that the follower has reached the end that the stream had when it began to follow.
func (f *Follower) caughtUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.CaughtUp = true
}

// follow stores the events that the stream has after the log's head, and every new one, until it fails. It calls works once it
// has all of them, and whenever it has stored some.
func (f *Follower) follow(ctx context.Context, works func()) error {
	head, err := f.log.Last(ctx)
	if err != nil {
		return err
	}
	s, err := f.js.Stream(ctx, f.Stream)
	if err != nil {
		return fmt.Errorf("follow: the stream %s: %w", f.Stream, err)
	}
	end := int64(s.CachedInfo().State.LastSeq) //nolint:gosec // sequences are positions, which are signed
	f.seen(head.Position, end)
	if err := f.compare(ctx, s, head); err != nil {
		return err
	}
	// Not an ordered consumer: that replaces itself when it is lost, and cannot be stopped while it tries, for up to 20 s.
	consumer, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(head.Position) + 1, //nolint:gosec // not negative
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerTTL,
	})
	if err != nil {
		return fmt.Errorf("follow: read the stream %s: %w", f.Stream, err)
	}
	incoming, stop, err := receive(ctx, consumer)
	if err != nil {
		return fmt.Errorf("follow: read the stream %s: %w", f.Stream, err)
	}
	defer stop()
	if head.Position >= end {
		works()
		f.caughtUp()
	}
	for {
		batch, err := f.next(ctx, incoming, head)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			if err := f.idle(ctx, s, head); err != nil {
				return err
			}
			continue
		}
		if head, err = f.store(ctx, head, batch); err != nil {
			return err
		}
		f.seen(head.Position, 0)
		works()
		if head.Position >= end {
			f.caughtUp()
		}
	}
}

// compare returns an error unless the stream contains the log's head and can continue from it. A *HaltedError means that waiting
// does not help.
func (f *Follower) compare(ctx context.Context, s jetstream.Stream, head eventstore.Head) error {
	state := s.CachedInfo().State
	switch {
	case state.LastSeq < uint64(head.Position): //nolint:gosec // not negative
		return fmt.Errorf("follow: the stream %s ends at %d, before this follower's position %d: waiting until the relay has published the rest again",
			f.Stream, state.LastSeq, head.Position)
	case state.LastSeq > 0 && state.FirstSeq > uint64(head.Position)+1: //nolint:gosec // not negative
		return &HaltedError{fmt.Sprintf("the stream %s begins at %d, after this follower's position %d: restore the database from a "+
			"backup of the primary that reaches that position", f.Stream, state.FirstSeq, head.Position)}
	case head.Position == 0:
		return nil
	}
	msg, err := s.GetMsg(ctx, uint64(head.Position)) //nolint:gosec // positive
	if err != nil {
		return fmt.Errorf("follow: the message with sequence %d of the stream %s: %w", head.Position, f.Stream, err)
	}
	e, err := stream.Parse(msg.Sequence, msg.Subject, msg.Header, msg.Data)
	if err != nil {
		return &HaltedError{fmt.Sprintf("%v; is %s the stream of a Passbook?", err, f.Stream)}
	}
	if e.EventID != head.EventID {
		return f.another(head, e.EventID.String())
	}
	return nil
}

// another returns the error for a stream that has the event id at the position of the log's head.
func (f *Follower) another(head eventstore.Head, id string) error {
	return &HaltedError{fmt.Sprintf("the stream %s has the event %s at position %d, and this follower has %s: the primary's log has gone "+
		"back, as after a restore, or the stream is another Passbook's; %s", f.Stream, id, head.Position, head.EventID, makeAnew)}
}

// idle checks the stream when no messages have arrived: if it was deleted or has lost its end, none ever would.
func (f *Follower) idle(ctx context.Context, s jetstream.Stream, head eventstore.Head) error {
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("follow: the stream %s: %w", f.Stream, err)
	}
	end := int64(info.State.LastSeq) //nolint:gosec // sequences are positions, which are signed
	f.seen(head.Position, end)
	if end != head.Position {
		return errRestart
	}
	return nil
}

// store stores the events of a batch that the log does not have yet, and returns the log's head after it.
func (f *Follower) store(ctx context.Context, head eventstore.Head, batch []stream.Recorded) (eventstore.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	for {
		events := make([]eventstore.Event, 0, len(batch))
		last := head
		for i := range batch {
			e := &batch[i]
			switch {
			case e.Position < head.Position: // another instance was faster
				continue
			case e.Position == head.Position && e.EventID != head.EventID:
				return head, f.another(head, e.EventID.String())
			case e.Position == head.Position:
				continue
			case e.Position != last.Position+1:
				return head, errRestart
			case e.Previous != last.EventID:
				return head, f.another(last, e.Previous.String())
			}
			events = append(events, e.Event)
			last = eventstore.Head{Position: e.Position, EventID: e.EventID}
		}
		if len(events) == 0 {
			return head, nil
		}
		found, err := f.insert(ctx, head, events)
		switch {
		case err != nil:
			return head, err
		case found == last:
			f.Appended()
			return last, nil
		case found.Position <= head.Position: // the database has gone back
			return head, errRestart
		}
		head = found
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
