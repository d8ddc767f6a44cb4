package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"passbook/internal/eventstore"
	"passbook/internal/stream"
)

// The headers of an atomic publish (ADR-50 of NATS): all messages of a batch are stored or none is.
const (
	headerBatch    = "Nats-Batch-Id"
	headerNumber   = "Nats-Batch-Sequence"
	headerCommit   = "Nats-Batch-Commit"
	headerStream   = "Nats-Expected-Stream"
	headerSequence = "Nats-Expected-Last-Sequence"
)

// ack is the answer to a publish.
type ack struct {
	Error    *jetstream.APIError `json:"error"`
	Stream   string              `json:"stream"`
	Sequence uint64              `json:"seq"`
}

// batch is events that follow each other in the log, in one atomic publish.
type batch struct {
	// last is the last of its n events, and commit the message of that one, which is not sent yet: NATS holds the others until it
	// comes, and only then checks that the stream ends where the batch begins.
	last   eventstore.Head
	n      int
	commit *nats.Msg
}

// send sends the messages of events, which follow last: as many as batchBytes allows, all but the one that commits them.
func (r *Relay) send(last eventstore.Head, events []eventstore.Event) (batch, error) {
	messages := make([]*nats.Msg, 0, len(events))
	previous := last.EventID
	for i, size := 0, 0; i < len(events) && size < batchBytes; i++ {
		body, err := r.Encode(&events[i])
		if err != nil {
			return batch{}, fmt.Errorf("relay: %w", err)
		}
		messages = append(messages, stream.NewMessage(&events[i], previous, body))
		previous = events[i].EventID
		size += len(body) + len(events[i].Payload) + len(events[i].Metadata)
	}
	messages[0].Header[headerStream] = []string{r.Stream}
	messages[0].Header[headerSequence] = []string{strconv.FormatInt(last.Position, 10)}
	n := len(messages)
	if n > 1 {
		id, numbers := []string{nuid.Next()}, make([]string, n)
		for i, msg := range messages {
			numbers[i] = strconv.Itoa(i + 1)
			msg.Header[headerBatch], msg.Header[headerNumber] = id, numbers[i:i+1:i+1]
		}
		messages[n-1].Header[headerCommit] = []string{"1"}
	}
	for _, msg := range messages[:n-1] {
		if err := r.Conn.PublishMsg(msg); err != nil {
			return batch{}, fmt.Errorf("relay: publish: %w", err)
		}
	}
	return batch{last: eventstore.Head{Position: events[n-1].Position, EventID: events[n-1].EventID}, n: n, commit: messages[n-1]}, nil
}

// commit has a batch stored, or none of it. The error is errMoved if the stream does not end where the batch begins. After any other
// error the outcome is unknown.
func (r *Relay) commit(ctx context.Context, b batch) error {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	answer, err := r.Conn.RequestMsgWithContext(ctx, b.commit)
	if err != nil {
		return fmt.Errorf("relay: publish: %w", err)
	}
	var a ack
	if err := json.Unmarshal(answer.Data, &a); err != nil {
		return fmt.Errorf("relay: the answer to a publish: %w", err)
	}
	switch {
	case a.Error != nil && isWrongSequence(a.Error):
		r.mu.Lock()
		r.status.Refused++
		r.mu.Unlock()
		return errMoved
	case a.Error != nil:
		return fmt.Errorf("relay: publish: %w", a.Error)
	case a.Sequence != uint64(b.last.Position): //nolint:gosec // positions are positive
		return &HaltedError{fmt.Sprintf("the stream %s stored the event at position %d with sequence %d; check whether its limits or "+
			"sources were changed, then delete it: the relay publishes the log again", a.Stream, b.last.Position, a.Sequence)}
	}
	return nil
}

func isWrongSequence(err *jetstream.APIError) bool {
	return err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}
