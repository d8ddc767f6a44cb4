package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"passbook/internal/eventstore"
	"passbook/internal/stream"
)

// overlapping is the error code for creating a stream whose subjects another stream has.
const overlapping jetstream.ErrorCode = 10065

// check returns the stream's last event. It creates the stream if it is missing. It returns a *HaltedError if the stream is not
// configured as a copy of the log, or if something else publishes to it.
func (r *Relay) check(ctx context.Context) (eventstore.Head, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*ask)
	defer cancel()
	s, err := r.js.Stream(ctx, r.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = r.create(ctx)
	}
	if err != nil {
		return eventstore.Head{}, fmt.Errorf("relay: the stream %s: %w", r.Stream, err)
	}
	info := s.CachedInfo()
	if why := unfit(&info.Config); why != "" {
		return eventstore.Head{}, &HaltedError{fmt.Sprintf("the stream %s %s; delete it, or name another with PASSBOOK_RELAY_STREAM: "+
			"the relay then creates it with the right settings", r.Stream, why)}
	}
	end := info.State.LastSeq
	if end == 0 {
		r.seen(0, 0)
		return eventstore.Head{}, nil
	}
	msg, err := s.GetMsg(ctx, end)
	if err != nil {
		return eventstore.Head{}, fmt.Errorf("relay: the last message of the stream %s: %w", r.Stream, err)
	}
	e, err := stream.Parse(msg.Sequence, msg.Subject, msg.Header, msg.Data)
	if err != nil {
		return eventstore.Head{}, &HaltedError{fmt.Sprintf("%v: something else publishes to the stream %s; delete it, and let nothing "+
			"else publish to %s>", err, r.Stream, stream.SubjectPrefix)}
	}
	last := eventstore.Head{Position: e.Position, EventID: e.EventID}
	r.seen(last.Position, 0)
	return last, nil
}

// wentBack returns the error for a log that does not contain the stream's last event.
func (r *Relay) wentBack(last eventstore.Head) error {
	return &HaltedError{fmt.Sprintf("the log does not contain the last event of the stream %[1]s (position %[2]d, id %[3]s): the log "+
		"has gone back, as after a restore, and consumers have seen events that it lost. Begin a new stream: give the old one "+
		"another subject (nats stream edit %[1]s --subjects 'passbook.before.>') or delete it, set PASSBOOK_RELAY_STREAM to a new "+
		"name, and make followers and other consumers anew", r.Stream, last.Position, last.EventID)}
}

// create creates the stream. Nothing in it is ever deleted or replaced, and its first message has the sequence 1.
func (r *Relay) create(ctx context.Context) (jetstream.Stream, error) {
	s, err := r.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: r.Stream, Description: "The log of a Passbook; a message's sequence is its event's position.",
		Subjects: []string{stream.SubjectPrefix + ">"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, MaxConsumers: -1, MaxMsgsPerSubject: -1, Storage: jetstream.FileStorage, Replicas: r.Replicas,
		FirstSeq: 1, AllowAtomicPublish: true, AllowDirect: true, DenyDelete: true, DenyPurge: true,
	})
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && api.ErrorCode == overlapping:
		return nil, &HaltedError{fmt.Sprintf("another stream has the subjects %s>, so %s cannot be created: delete the other, or give "+
			"it another subject (nats stream edit NAME --subjects 'passbook.before.>')", stream.SubjectPrefix, r.Stream)}
	case err != nil:
		return nil, fmt.Errorf("create it with %d replicas (PASSBOOK_RELAY_REPLICAS): %w", r.Replicas, err)
	}
	r.Logger.InfoContext(ctx, "the relay has created the stream", "stream", r.Stream, "replicas", r.Replicas)
	return s, nil
}

// unfit returns what keeps a stream from being a copy of the log, or "" if nothing does.
func unfit(c *jetstream.StreamConfig) string {
	switch {
	case !c.AllowAtomicPublish:
		return "does not allow atomic publishes"
	case c.Retention != jetstream.LimitsPolicy, c.MaxAge != 0, c.MaxMsgs > 0, c.MaxBytes > 0, c.MaxMsgsPerSubject > 0:
		return "deletes messages by its limits"
	case c.Mirror != nil, len(c.Sources) > 0, c.SubjectTransform != nil:
		return "has messages of other streams, or changes their subjects"
	case c.Storage != jetstream.FileStorage:
		return "is in memory"
	}
	return ""
}

// end returns the last sequence of the stream.
func (r *Relay) end(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	s, err := r.js.Stream(ctx, r.Stream)
	if err != nil {
		return 0, fmt.Errorf("relay: the stream %s: %w", r.Stream, err)
	}
	return int64(s.CachedInfo().State.LastSeq), nil //nolint:gosec // sequences are positions, which are signed
}

const howToSync = "set jetstream { sync_interval: always } on every node: with the default, nodes that lose power together lose " +
	"messages that they have acknowledged (the relay notices and publishes them again; consumers may have to start anew)"

// warnUnlessSynced asks the nodes whether they sync what they store before they acknowledge it, and warns of those that do not. They
// answer only connections that may use the subjects of the system account; without an answer it logs what to set.
func (r *Relay) warnUnlessSynced(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	inbox := nats.NewInbox()
	answers, err := r.Conn.SubscribeSync(inbox)
	if err != nil {
		return
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := r.Conn.PublishRequest("$SYS.REQ.SERVER.PING.JSZ", inbox, nil); err != nil {
		return
	}
	told := 0
	for {
		msg, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var node struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data struct {
				Config struct {
					SyncAlways bool `json:"sync_always"`
				} `json:"config"`
			} `json:"data"`
		}
		if json.Unmarshal(msg.Data, &node) != nil || node.Server.Name == "" {
			continue
		}
		if told++; !node.Data.Config.SyncAlways {
			r.Logger.WarnContext(ctx, "a NATS server acknowledges messages before they are on its disk: "+howToSync, "server", node.Server.Name)
		}
	}
	if told == 0 {
		r.Logger.WarnContext(ctx, "no NATS server told the relay whether it syncs messages before it acknowledges them: "+howToSync)
	}
}
