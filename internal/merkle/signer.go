package merkle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/eventstore"
)

const (
	// batchSize is how many events a checkpoint adds at most.
	batchSize = 4096
	// retryFirst and retryMost limit the pauses between attempts while the database is unavailable.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// haltedCheck is how long a halted signer waits before it checks again.
	haltedCheck = 5 * time.Second
)

// Log is the log that is signed.
type Log interface {
	// Select returns events in order and with their metadata.
	Select(ctx context.Context, after, upTo int64, sel eventstore.Selection, limit int) ([]eventstore.Event, error)
}

// Config configures a Signer. Pool, Log, Keys and Logger are required.
type Config struct {
	Pool *pgxpool.Pool
	Log  Log
	// Keys have at least one private key.
	Keys Keys
	// File is where checkpoints are written too; it may be empty.
	File   string
	Logger *slog.Logger
	// Every is how often a checkpoint is signed when the log grows; 0 means 1 s.
	Every time.Duration
	// Takeover is how long a signer stands by until it checks whether the other instance still signs; 0 means 3 s.
	Takeover time.Duration
}

// State is what a signer does.
type State string

// The states of a signer.
const (
	Starting    State = "starting"
	Signing     State = "signing"
	StandingBy  State = "standing by"
	Unavailable State = "unavailable" // the database, or the file
	Halted      State = "halted"
)

// States are all states.
var States = []State{Starting, Signing, StandingBy, Unavailable, Halted}

// Status is the state of a signer.
type Status struct {
	State State
	// Size is how many events the latest checkpoint covers, and Head the position of the log's head, when this instance last looked.
	Size, Head int64
	// Error is why the signer has halted, or what is unavailable.
	Error string
}

// HaltedError means that the log is not the one that was signed. Its text says where, and what to do.
type HaltedError struct{ Reason string }

func (e *HaltedError) Error() string { return "merkle: " + e.Reason }

// Signer extends the tree by the new events of the log, and signs it. Any number may run on one log.
type Signer struct {
	Config
	store store

	mu     sync.Mutex
	status Status
}

// NewSigner returns a Signer, which does nothing until Run.
func NewSigner(c Config) *Signer {
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.Takeover == 0 {
		c.Takeover = 3 * time.Second
	}
	return &Signer{Config: c, store: store{c.Pool}, status: Status{State: Starting}}
}

// Status returns the state of the signer.
func (s *Signer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run signs until ctx ends, and returns nil.
func (s *Signer) Run(ctx context.Context) error {
	wait := retryFirst
	for ctx.Err() == nil {
		err := s.sign(ctx, func() { wait = retryFirst })
		_, halted := errors.AsType[*HaltedError](err)
		_, damaged := errors.AsType[*DamagedError](err)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errMoved):
			s.set(StandingBy, nil)
			s.standBy(ctx)
		case halted, damaged:
			s.set(Halted, err)
			sleep(ctx, haltedCheck)
		default:
			s.set(Unavailable, err)
			sleep(ctx, wait)
			wait = min(2*wait, retryMost)
		}
	}
	return nil
}

// RunOnce signs what is in the log now, and writes the checkpoint to the file.
func (s *Signer) RunOnce(ctx context.Context) error {
	at, err := s.begin(ctx)
	if err != nil {
		return err
	}
	for more := true; more; {
		if at, more, err = s.next(ctx, at); err != nil {
			return err
		}
	}
	return s.write(at)
}

// position is where a signer stands: a checkpoint with its signatures. The zero value is the beginning.
type position struct {
	Checkpoint
	signed string
}

// sign signs the log as it grows, until it fails. It calls ok when something has worked.
func (s *Signer) sign(ctx context.Context, ok func()) error {
	at, err := s.begin(ctx)
	if err != nil {
		return err
	}
	written, last := "", time.Time{}
	for {
		next, more, err := s.next(ctx, at)
		if err != nil {
			return err
		}
		at = next
		if at.signed != written && time.Since(last) >= s.Every {
			if err := s.write(at); err != nil {
				return err
			}
			written, last = at.signed, time.Now()
		}
		s.set(Signing, nil)
		ok()
		if !more && !sleep(ctx, s.Every) {
			return ctx.Err()
		}
	}
}

// begin returns the stored checkpoint, after it has checked that it is of these keys and contains what was written to the file.
func (s *Signer) begin(ctx context.Context) (at position, err error) {
	signed, head, err := s.store.state(ctx)
	if err != nil {
		return at, err
	}
	if signed != "" {
		if at.Checkpoint, err = s.Keys.Open([]byte(signed)); err != nil {
			return at, &HaltedError{fmt.Sprintf("the stored checkpoint is not of the keys in PASSBOOK_SIGNING_KEY_FILE: %v. To change "+
				"the key, keep the line of the old one, or its public key, in the file until a checkpoint is signed with the new one", err)}
		}
		at.signed = signed
	}
	s.seen(at.Size, head)
	return at, s.compareFile(ctx, at)
}

// next signs the next batch of events. It reports whether there may be more.
func (s *Signer) next(ctx context.Context, at position) (next position, more bool, err error) {
	signed, head, err := s.store.state(ctx)
	if err != nil {
		return at, false, err
	}
	if signed != at.signed {
		return at, false, errMoved
	}
	if head < at.Size {
		return at, false, &HaltedError{fmt.Sprintf("the log ends at position %d, but %d events were signed: positions %d to %d are missing. "+
			"Run server audit; docs/audit.md says what may have happened", head, at.Size, head+1, at.Size)}
	}
	if head == at.Size {
		if at.signed == "" || s.Keys.signedByAll([]byte(at.signed)) {
			s.seen(at.Size, head)
			return at, false, nil
		}
		next, err = s.extend(ctx, at, nil, nil) // signs the same with all keys
		return next, true, err
	}
	fresh, leaves, err := s.hash(ctx, at)
	if err != nil {
		return at, false, err
	}
	if next, err = s.extend(ctx, at, fresh, leaves); err != nil {
		return at, false, err
	}
	s.seen(next.Size, max(head, next.Size))
	return next, next.Size < head, nil
}

// tail returns the leaf hashes of the last two signed events, with zeros for those before the first.
func (s *Signer) tail(base tlog.HashReader, size int64) (before, last tlog.Hash, err error) {
	var indexes []int64
	for n := max(0, size-2); n < size; n++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, n))
	}
	hashes, err := base.ReadHashes(indexes)
	if err != nil {
		return before, last, err
	}
	if size > 0 {
		last = hashes[len(hashes)-1]
	}
	if size > 1 {
		before = hashes[0]
	}
	return before, last, nil
}

// hash reads a batch of events and returns the stored tree and their leaf hashes. The same statement reads the last signed event, to
// check that the log still has it.
func (s *Signer) hash(ctx context.Context, at position) (base tlog.HashReader, leaves []tlog.Hash, err error) {
	base = s.store.reader(ctx, at.tree())
	before, previous, err := s.tail(base, at.Size)
	if err != nil {
		return nil, nil, err
	}
	from := min(at.Size, 1)
	events, err := s.Log.Select(ctx, at.Size-from, math.MaxInt64, eventstore.Selection{}, batchSize+int(from))
	if archived, ok := errors.AsType[*eventstore.ArchivedError](err); ok {
		return nil, nil, &HaltedError{fmt.Sprintf("%d events are signed, and those up to position %d are in the archive; attach it with "+
			"server archive attach until they are signed", at.Size, archived.First-1)}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("merkle: read the log: %w", err)
	}
	var buffer []byte
	if from == 1 {
		if len(events) == 0 || leaf(&buffer, &events[0], before) != previous {
			return nil, nil, &HaltedError{fmt.Sprintf("the event at position %d, the last that was signed, is missing or is not the one that "+
				"was signed. Run server audit; docs/audit.md says what may have happened", at.Size)}
		}
		events = events[1:]
	}
	for i := range events {
		if want := at.Size + 1 + int64(i); events[i].Position != want {
			return nil, nil, &HaltedError{fmt.Sprintf("position %d is missing; run server verify", want)}
		}
		previous = leaf(&buffer, &events[i], previous)
		leaves = append(leaves, previous)
	}
	return base, leaves, nil
}

// extend adds leaves to the tree, and stores it with the checkpoint of its new size.
func (s *Signer) extend(ctx context.Context, at position, base tlog.HashReader, leaves []tlog.Hash) (next position, err error) {
	next.Checkpoint = Checkpoint{Origin: s.Keys.Name, Size: at.Size + int64(len(leaves)), Root: at.Root}
	var tiles []tlog.Tile
	var data [][]byte
	if len(leaves) > 0 {
		tree := &growing{base: base, first: tlog.StoredHashCount(at.Size)}
		for i, h := range leaves {
			if err := tree.add(at.Size+int64(i), h); err != nil {
				return at, err
			}
		}
		if next.Root, err = tlog.TreeHash(next.Size, tree); err != nil {
			return at, err
		}
		tiles = tlog.NewTiles(tileHeight, at.Size, next.Size)
		for _, t := range tiles {
			hashes, err := tlog.ReadTileData(t, tree)
			if err != nil {
				return at, err
			}
			data = append(data, hashes)
		}
	}
	signed, err := s.Keys.sign(next.Checkpoint)
	if err != nil {
		return at, fmt.Errorf("merkle: sign: %w", err)
	}
	next.signed = string(signed)
	return next, s.store.move(ctx, at.signed, signed, tiles, data)
}

// growing is a stored tree with hashes added to it.
type growing struct {
	base  tlog.HashReader
	first int64 // the index of the first added hash
	added []tlog.Hash
}

func (g *growing) add(n int64, leaf tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(n, leaf, g)
	g.added = append(g.added, hashes...)
	return err
}

// ReadHashes implements tlog.HashReader.
func (g *growing) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var stored, places []int64
	for i, index := range indexes {
		if index >= g.first {
			hashes[i] = g.added[index-g.first]
		} else {
			stored, places = append(stored, index), append(places, int64(i))
		}
	}
	if len(stored) == 0 {
		return hashes, nil
	}
	read, err := g.base.ReadHashes(stored)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		hashes[place] = read[i]
	}
	return hashes, nil
}

// standBy returns when the log has been ahead of the same checkpoint for Config.Takeover.
func (s *Signer) standBy(ctx context.Context) {
	before, since := "", time.Now()
	for {
		signed, head, err := s.store.state(ctx)
		if err != nil {
			return // Run reports it
		}
		c, err := ParseCheckpoint(signed)
		if signed != "" && err != nil {
			return
		}
		s.seen(c.Size, head)
		if signed != before || head == c.Size {
			before, since = signed, time.Now()
		} else if time.Since(since) >= s.Takeover {
			return
		}
		if !sleep(ctx, s.Takeover/4) {
			return
		}
	}
}

func (s *Signer) seen(size, head int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Size, s.status.Head = size, head
}

// set records the state, and logs a change of it.
func (s *Signer) set(state State, err error) {
	s.mu.Lock()
	before := s.status.State
	s.status.State, s.status.Error = state, ""
	if err != nil {
		s.status.Error = err.Error()
	}
	size := s.status.Size
	s.mu.Unlock()
	if before == state {
		return
	}
	switch state {
	case Unavailable:
		s.Logger.Warn("the log cannot be signed; retrying", "error", err)
	case Halted:
		s.Logger.Error("the log is no longer signed; the service continues", "error", err)
	case Signing, StandingBy:
		s.Logger.Info("the signer of the log is "+string(state), "name", s.Keys.Name, "signed", size)
	case Starting:
	}
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
