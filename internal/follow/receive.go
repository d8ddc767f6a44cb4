package follow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/stream"
)

// received is a message, or the error after which no more messages come.
type received struct {
	msg jetstream.Msg
	err error
}

// receive returns a channel with a consumer's messages until ctx ends. An error is the last value before the channel is closed. The
// caller must call stop.
func receive(ctx context.Context, consumer jetstream.Consumer) (_ <-chan received, stop func(), err error) {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(2 * batchSize))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	incoming := make(chan received, batchSize)
	var receiver sync.WaitGroup
	receiver.Go(func() {
		defer close(incoming)
		defer messages.Stop()
		for {
			msg, err := messages.Next(jetstream.NextContext(ctx))
			select {
			case incoming <- received{msg, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	})
	return incoming, func() { cancel(); receiver.Wait() }, nil
}

// next waits for a message and returns the events of all that have arrived, at most batchSize. It returns none if no message arrives
// within Config.Idle.
func (f *Follower) next(ctx context.Context, incoming <-chan received, head eventstore.Head) ([]stream.Recorded, error) {
	quiet := time.NewTimer(f.Idle)
	defer quiet.Stop()
	var batch []stream.Recorded
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-quiet.C:
		return nil, nil
	case first, ok := <-incoming:
		if !ok {
			return nil, errRestart
		}
		e, err := parse(first)
		if err != nil {
			return nil, err
		}
		batch = append(make([]stream.Recorded, 0, batchSize), e)
	}
	if first := batch[0].Position; first > head.Position+1 {
		return nil, errRestart
	}
	for len(batch) < batchSize {
		select {
		case more, ok := <-incoming:
			if !ok || more.err != nil { // the next call finds the channel closed
				return batch, nil
			}
			e, err := parse(more)
			if err != nil {
				return nil, err
			}
			batch = append(batch, e)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

func parse(r received) (stream.Recorded, error) {
	switch {
	case errors.Is(r.err, jetstream.ErrMsgIteratorClosed), errors.Is(r.err, jetstream.ErrNoHeartbeat), errors.Is(r.err, jetstream.ErrConsumerDeleted):
		return stream.Recorded{}, errRestart // NATS forgets a consumer whose server it loses
	case r.err != nil:
		return stream.Recorded{}, fmt.Errorf("follow: read the stream: %w", r.err)
	}
	about, err := r.msg.Metadata()
	if err != nil {
		return stream.Recorded{}, fmt.Errorf("follow: read the stream: %w", err)
	}
	e, err := stream.Parse(about.Sequence.Stream, r.msg.Subject(), r.msg.Headers(), r.msg.Data())
	if err != nil {
		return e, &HaltedError{err.Error() + ": something else publishes to the stream"}
	}
	return e, nil
}
