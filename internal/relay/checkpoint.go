package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Checkpoints go to a stream of their own, because a sequence of the log's stream is a position: its name is that of the log's stream
// and CheckpointSuffix, its subject CheckpointPrefix and the name of the log's stream.
const (
	CheckpointSuffix = "-CHECKPOINTS"
	CheckpointPrefix = "passbook.checkpoints."
)

const (
	// keptCheckpoints and keptBytes limit the stream; when one is reached, the oldest checkpoint goes.
	keptCheckpoints = 100_000
	keptBytes       = 64 << 20
	// duplicates is how long a checkpoint that is published again is recognized.
	duplicates = 5 * time.Minute
)

// PublishCheckpoint stores a signed checkpoint in the stream of checkpoints, which it creates if it is missing. One that another relay
// has published minutes ago is not stored again.
func (r *Relay) PublishCheckpoint(ctx context.Context, signed string) error {
	name, subject := r.Stream+CheckpointSuffix, CheckpointPrefix+r.Stream
	_, err := r.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = r.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: name, Description: "Signed checkpoints of the log in the stream " + r.Stream + ".", Subjects: []string{subject},
			Storage: jetstream.FileStorage, Replicas: r.Replicas, Discard: jetstream.DiscardOld,
			MaxMsgs: keptCheckpoints, MaxBytes: keptBytes, Duplicates: duplicates, AllowDirect: true, DenyDelete: true,
		})
	}
	if err != nil {
		return fmt.Errorf("relay: the stream %s: %w", name, r.Conn.Explain(err))
	}
	sum := sha256.Sum256([]byte(signed))
	_, err = r.js.Publish(ctx, subject, []byte(signed), jetstream.WithMsgID(hex.EncodeToString(sum[:16])), jetstream.WithExpectStream(name))
	if err != nil {
		return fmt.Errorf("relay: publish a checkpoint: %w", r.Conn.Explain(err))
	}
	return nil
}
