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

// publish publishes events, which follow last, in one atomic batch: as many as batchBytes allows. It returns how many, if they were
// stored. The error is errMoved if the stream does not end with last. After any other error the outcome is unknown.
func (r *Relay) publish(ctx context.Context, last eventstore.Head, events []eventstore.Event) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	messages := make([]*nats.Msg, 0, len(events))
	previous := last.EventID
	for i, size := 0, 0; i < len(events) && size < batchBytes; i++ {
		body, err := r.Encode(&events[i])
		if err != nil {
			return 0, fmt.Errorf("relay: %w", err)
		}
		messages = append(messages, stream.NewMessage(&events[i], previous, body))
		previous = events[i].EventID
		size += len(body) + len(events[i].Payload) + len(events[i].Metadata)
	}
	messages[0].Header[headerStream] = []string{r.Stream}
	messages[0].Header[headerSequence] = []string{strconv.FormatInt(last.Position, 10)}
	n := len(messages)
	if n > 1 {
		batch := nuid.Next()
		for i, msg := range messages {
			msg.Header[headerBatch], msg.Header[headerNumber] = []string{batch}, []string{strconv.Itoa(i + 1)}
		}
		messages[n-1].Header[headerCommit] = []string{"1"}
	}
	for _, msg := range messages[:n-1] {
		if err := r.Conn.PublishMsg(msg); err != nil {
			return 0, fmt.Errorf("relay: publish: %w", err)
		}
	}
	return n, r.commit(ctx, messages[n-1], events[n-1].Position)
}

// commit publishes the last message of a batch and waits for the answer.
func (r *Relay) commit(ctx context.Context, msg *nats.Msg, position int64) error {
	answer, err := r.Conn.RequestMsgWithContext(ctx, msg)
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
	case a.Sequence != uint64(position): //nolint:gosec // positions are positive
		return &HaltedError{fmt.Sprintf("the stream %s stored the event at position %d with sequence %d; check whether its limits or "+
			"sources were changed, then delete it: the relay publishes the log again", a.Stream, position, a.Sequence)}
	}
	return nil
}

func isWrongSequence(err *jetstream.APIError) bool {
	return err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}
