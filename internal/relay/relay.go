package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"passbook/internal/eventstore"
	"passbook/internal/stream"
)

const (
	// batchSize is how many messages an atomic publish has at most; NATS allows 1,000.
	batchSize = 1000
	// batchBytes is the size at which a batch ends.
	batchBytes = 4 << 20
	// request limits the storing of a batch and a read of the log; ask limits a request for the state of the stream, which a cluster without a
	// leader does not answer.
	request = 5 * time.Second
	ask     = 2 * time.Second
	// idleCheck is how often the stream is checked while there is nothing to publish: it may have been deleted.
	idleCheck = 5 * time.Second
	// haltedCheck is how long a halted relay waits before it checks again.
	haltedCheck = 5 * time.Second
	// retryFirst and retryMost limit the pauses between attempts while NATS or the database is unavailable.
	retryFirst = 100 * time.Millisecond
	retryMost  = time.Second
)

// Log is the log that is published.
type Log interface {
	// Status returns the log's head, and whether the log contains an event at a position.
	Status(ctx context.Context, position int64, event uuid.UUID) (eventstore.Status, error)
	// Select returns events in order and with their metadata.
	Select(ctx context.Context, after, upTo int64, sel eventstore.Selection, limit int) ([]eventstore.Event, error)
}

// Config configures a Relay. Log, Conn, Stream, Encode and Logger are required.
type Config struct {
	Log Log
	// Conn is a connection from stream.Connect; the caller closes it.
	Conn *stream.Conn
	// Stream is the name of the stream. Replicas is how many nodes store it if the relay has to create it; 0 means 1.
	Stream   string
	Replicas int
	// Encode returns an event in the JSON format of CloudEvents.
	Encode func(*eventstore.Event) ([]byte, error)
	Logger *slog.Logger
	// Poll is how often the end of the log is read when Wake is not called; 0 means 100 ms.
	Poll time.Duration
	// Takeover is how long the stream has to stay behind the log until a relay that stands by takes over; 0 means 2 s.
	Takeover time.Duration
}

// State is what a relay does.
type State string

// The states of a relay.
const (
	Starting    State = "starting"
	Publishing  State = "publishing"
	StandingBy  State = "standing by"
	Unavailable State = "unavailable" // NATS or the database
	Halted      State = "halted"
)

// Status is the state of a relay, and what it has done since it started.
type Status struct {
	State State
	// Position is the position of the stream's last event when the relay last checked.
	Position int64
	// Published counts the events that this relay has published, and Republished those of them that the stream had held before.
	Published, Republished int64
	// Refused counts the batches that the stream refused because it ended at another sequence.
	Refused int64
	// Error is why the relay is halted or what is unavailable.
	Error string
}

// Relay publishes the log. Any number may run on one log.
type Relay struct {
	Config
	js   jetstream.JetStream
	wake chan struct{} // holds one

	mu      sync.Mutex
	status  Status
	highest int64 // the highest position that the stream was seen to have
}

// New returns a Relay, which does nothing until Run.
func New(c Config) (*Relay, error) {
	js, err := jetstream.New(c.Conn.Conn, jetstream.WithDefaultTimeout(ask))
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if c.Poll == 0 {
		c.Poll = 100 * time.Millisecond
	}
	if c.Takeover == 0 {
		c.Takeover = 2 * time.Second
	}
	c.Replicas = max(c.Replicas, 1)
	return &Relay{Config: c, js: js, wake: make(chan struct{}, 1), status: Status{State: Starting}}, nil
}

// Wake says that the log may have grown. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Status returns the state of the relay.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// HaltedError means that the stream is not a copy of the log and that publishing cannot make it one. Its text says what to do.
type HaltedError struct{ Reason string }

func (e *HaltedError) Error() string { return "relay: " + e.Reason }

// errMoved means that the stream did not end where it was expected to.
var errMoved = errors.New("the stream has moved")

// Run publishes until ctx ends, and returns nil.
func (r *Relay) Run(ctx context.Context) error {
	wait, synced := retryFirst, false
	for ctx.Err() == nil {
		last, err := r.check(ctx)
		if err == nil {
			if !synced {
				r.warnUnlessSynced(ctx)
				synced = true
			}
			wait = retryFirst
			err = r.publishAfter(ctx, last)
		}
		_, halted := errors.AsType[*HaltedError](err)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errMoved):
			if r.overtaken(ctx) {
				r.set(StandingBy, nil)
				r.standBy(ctx)
			}
		case halted:
			r.set(Halted, err)
			sleep(ctx, haltedCheck)
		default:
			r.set(Unavailable, err)
			sleep(ctx, wait)
			wait = min(2*wait, retryMost)
		}
	}
	return nil
}

// set records the state with the error that led to it, and logs a change of it.
func (r *Relay) set(state State, err error) {
	err = r.Conn.Explain(err)
	r.mu.Lock()
	before := r.status.State
	r.status.State, r.status.Error = state, ""
	if err != nil {
		r.status.Error = err.Error()
	}
	position := r.status.Position
	r.mu.Unlock()
	if before == state {
		return
	}
	switch state {
	case Unavailable:
		r.Logger.Warn("the relay cannot publish; retrying until NATS and the database are available", "stream", r.Stream, "error", err)
	case Halted:
		r.Logger.Error("the relay has halted; the service continues", "stream", r.Stream, "error", err)
	case Publishing, StandingBy:
		r.Logger.Info("the relay is "+string(state), "stream", r.Stream, "position", position)
	case Starting:
	}
}

// seen records the position of the stream's last event, and how many events up to there this relay has just published.
func (r *Relay) seen(position int64, published int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := position - int64(published) + 1
	r.status.Position = position
	r.status.Published += int64(published)
	r.status.Republished += max(0, min(position, r.highest)-first+1)
	r.highest = max(r.highest, position)
}

// overtaken reports whether the stream ends after the position that this relay knows: then another relay has published.
func (r *Relay) overtaken(ctx context.Context) bool {
	end, err := r.end(ctx)
	return err == nil && end > r.Status().Position
}

// publishAfter publishes the events after last, which is the stream's last event, and every new event, until it fails. While a
// batch is being stored, the next one is read, encoded and sent.
func (r *Relay) publishAfter(ctx context.Context, last eventstore.Head) error {
	group, ctx := errgroup.WithContext(ctx)
	sent := make(chan batch)
	group.Go(func() error { return r.sendAfter(ctx, last, sent) })
	group.Go(func() error { return r.commitAll(ctx, last.Position, sent) })
	return group.Wait()
}

// sendAfter sends the events after last, which the log has to contain, in batches that are to be committed.
func (r *Relay) sendAfter(ctx context.Context, last eventstore.Head, sent chan<- batch) error {
	poll := time.NewTicker(r.Poll)
	defer poll.Stop()
	for {
		events, err := r.read(ctx, last)
		if err != nil {
			return err
		}
		r.set(Publishing, nil)
		if len(events) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-r.wake:
			case <-poll.C:
			}
			continue
		}
		next, err := r.send(last, events)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case sent <- next:
			last = next.last
		}
	}
}

// commitAll commits batches one after the other. While there are none, it checks that the stream still ends where it should.
func (r *Relay) commitAll(ctx context.Context, end int64, sent <-chan batch) error {
	idle := time.NewTicker(idleCheck)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case next := <-sent:
			if err := r.commit(ctx, next); err != nil {
				return err
			}
			end = next.last.Position
			r.seen(end, next.n)
			idle.Reset(idleCheck)
		case <-idle.C:
			found, err := r.end(ctx)
			switch {
			case err != nil:
				return err
			case found != end:
				return errMoved
			}
		}
	}
}

// read returns the events after last. The same statement reads last too, to check that the log still has it.
func (r *Relay) read(ctx context.Context, last eventstore.Head) ([]eventstore.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	from := min(last.Position, 1)
	events, err := r.Log.Select(ctx, last.Position-from, math.MaxInt64, eventstore.Selection{}, batchSize+int(from))
	if archived, ok := errors.AsType[*eventstore.ArchivedError](err); ok {
		return nil, &HaltedError{fmt.Sprintf("the stream %s ends at position %d, and the events up to position %d are in the archive; attach "+
			"it with server archive attach until the stream has them", r.Stream, last.Position, archived.First-1)}
	}
	if err != nil {
		return nil, fmt.Errorf("relay: read the log: %w", err)
	}
	if from == 1 {
		if len(events) == 0 || events[0].EventID != last.EventID {
			return nil, r.wentBack(last)
		}
		events = events[1:]
	}
	for i := range events {
		if want := last.Position + 1 + int64(i); events[i].Position != want {
			return nil, &HaltedError{fmt.Sprintf("the log is damaged: it has position %d where %d should be; run server verify", events[i].Position, want)}
		}
	}
	return events, nil
}

// standBy returns when the stream has not grown for Config.Takeover although it does not end where the log ends.
func (r *Relay) standBy(ctx context.Context) {
	poll := time.NewTicker(r.Takeover / 8)
	defer poll.Stop()
	at, since := int64(-1), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		end, err := r.end(ctx)
		if err != nil && !stream.IsMissing(err) {
			r.set(Unavailable, err)
			since = time.Now()
			continue
		}
		status, err := r.Log.Status(ctx, 0, uuid.Nil)
		if err != nil {
			r.set(Unavailable, err)
			since = time.Now()
			continue
		}
		r.set(StandingBy, nil)
		r.seen(end, 0)
		switch {
		case end != at, end == status.Head.Position:
			at, since = end, time.Now()
		case time.Since(since) > r.Takeover:
			return
		}
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
