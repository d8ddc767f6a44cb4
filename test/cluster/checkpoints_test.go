package main

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/note"

	"passbook/internal/merkle"
	"passbook/internal/relay"
)

// TestCheckpointsInTheStream signs the log while two relays publish it. The latest checkpoint gets to a stream of its own, each once, also
// after NATS was unavailable, and the log's stream stays as it is.
func TestCheckpointsInTheStream(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	private, public, err := note.GenerateKey(nil, "bank.example/passbook")
	b.check(err)
	signing, err := merkle.ParseKeys(private)
	b.check(err)
	auditor, err := merkle.ParseKeys(public)
	b.check(err)
	sign := func() {
		b.append(3)
		b.check(merkle.NewSigner(merkle.Config{Pool: b.pool, Log: b.store, Keys: signing, Logger: quiet()}).RunOnce(t.Context()))
	}
	for range 2 {
		r, _ := b.relay()
		s := &merkle.Sender{
			Pool: b.pool, To: "stream", Send: r.PublishCheckpoint, Logger: quiet(), Every: 20 * time.Millisecond,
			Active: func() bool { return r.Status().State == relay.Publishing },
		}
		background(t, s.Run)
	}
	latest := func() (size int64, messages uint64) {
		s, err := b.js.Stream(t.Context(), "PASSBOOK"+relay.CheckpointSuffix)
		if err != nil {
			return 0, 0
		}
		msg, err := s.GetLastMsgForSubject(t.Context(), relay.CheckpointPrefix+"PASSBOOK")
		if err != nil {
			return 0, 0
		}
		c, err := auditor.Open(msg.Data)
		b.check(err)
		return c.Size, s.CachedInfo().State.Msgs
	}
	arrives := func() {
		b.await("the latest checkpoint is in the stream", func() bool { size, _ := latest(); return size == b.head.Position })
	}
	sign()
	arrives()
	sign()
	arrives()
	b.node.Kill()
	sign()
	b.check(b.node.Start())
	arrives()
	b.awaitEnd()
	if _, messages := latest(); messages != 3 {
		t.Errorf("%d messages for 3 checkpoints", messages)
	}
	s, err := b.js.Stream(t.Context(), "PASSBOOK"+relay.CheckpointSuffix)
	b.check(err)
	if c := s.CachedInfo().Config; c.Storage != jetstream.FileStorage || c.MaxMsgs <= 0 || c.MaxBytes <= 0 {
		t.Errorf("the stream is not bounded, or not on disk: %+v", c)
	}
}
