package merkle

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
)

// Errors of a Prover.
var (
	// ErrNoCheckpoint means that nothing has been signed.
	ErrNoCheckpoint = errors.New("merkle: there is no checkpoint")
	// ErrNotSigned means that the tree is smaller than what was asked for.
	ErrNotSigned = errors.New("merkle: not signed yet")
)

// Prover reads what was signed, and proves what is in it.
type Prover struct {
	store store
	log   *eventstore.Store
}

// NewProver returns a Prover, which reads from a pool, perhaps of a replica.
func NewProver(pool *pgxpool.Pool) *Prover { return &Prover{store{pool}, eventstore.New(pool)} }

// Signed returns the latest signed checkpoint, as a note, and its size.
func (p *Prover) Signed(ctx context.Context) (signed string, size int64, err error) {
	signed, c, err := p.latest(ctx)
	return signed, c.Size, err
}

func (p *Prover) latest(ctx context.Context) (signed string, c Checkpoint, err error) {
	if signed, _, err = p.store.state(ctx); err != nil {
		return "", c, err
	}
	if signed == "" {
		return "", c, ErrNoCheckpoint
	}
	if c, err = ParseCheckpoint(signed); err != nil {
		return "", c, fmt.Errorf("merkle: the stored checkpoint: %w", err)
	}
	return signed, c, nil
}

// Inclusion proves that an event is in the tree of a size.
type Inclusion struct {
	Size     int64
	StreamID uuid.UUID // of the event
	// Record is what is hashed for the event: tlog.RecordHash(Record) is Leaf. Previous is the leaf hash of the event before it.
	Record         []byte
	Leaf, Previous tlog.Hash
	Hashes         tlog.RecordProof
}

// Inclusion proves that the event at a position is in the tree of a size; size 0 stands for the latest. The record is computed
// from the event as it is stored now.
func (p *Prover) Inclusion(ctx context.Context, position, size int64) (in Inclusion, err error) {
	_, c, err := p.latest(ctx)
	if err != nil {
		return in, err
	}
	if size == 0 {
		size = c.Size
	}
	if position > size || size > c.Size {
		return in, ErrNotSigned
	}
	reader := p.store.reader(ctx, c.tree())
	if in.Hashes, err = tlog.ProveRecord(size, position-1, reader); err != nil {
		return in, fmt.Errorf("merkle: prove position %d: %w", position, err)
	}
	if position > 1 {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, position-2)})
		if err != nil {
			return in, fmt.Errorf("merkle: prove position %d: %w", position, err)
		}
		in.Previous = hashes[0]
	}
	events, err := p.log.Select(ctx, position-1, position, eventstore.Selection{}, 1)
	if err != nil {
		return in, err
	}
	if len(events) == 0 {
		return in, &DamagedError{fmt.Sprintf("position %d was signed and is not in the log", position)}
	}
	in.Size, in.StreamID, in.Record = size, events[0].StreamID, AppendRecord(nil, &events[0], in.Previous)
	in.Leaf = tlog.RecordHash(in.Record)
	return in, nil
}

// Consistency proves that the tree of size from is the beginning of the tree of size to; 0 for to stands for the latest.
func (p *Prover) Consistency(ctx context.Context, from, to int64) (hashes tlog.TreeProof, size int64, err error) {
	_, c, err := p.latest(ctx)
	if err != nil {
		return nil, 0, err
	}
	if to == 0 {
		to = c.Size
	}
	if from > to || to > c.Size {
		return nil, 0, ErrNotSigned
	}
	hashes, err = tlog.ProveTree(to, from, p.store.reader(ctx, c.tree()))
	if err != nil {
		return nil, 0, fmt.Errorf("merkle: prove %d to %d: %w", from, to, err)
	}
	return hashes, to, nil
}
