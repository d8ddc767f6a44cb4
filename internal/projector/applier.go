package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/eventstore"
)

// errRetryNow says that a step is to be repeated at once: a failure was recorded, the next batch was made smaller, or a parked
// stream was tried. Events may have been applied before that.
var errRetryNow = errors.New("the step is to be repeated")

// errStore says that a Store has failed, which is waited out.
var errStore = errors.New("the store")

// applier takes one generation of a projection along the log: the live one, which runLive takes further, or
// another, which a replay or a rollback does. One goroutine works on it.
type applier struct {
	Checkpoint // what is applied

	cfg          *Config
	def          *Projection
	state        *stateStore
	read         func(ctx context.Context, from Checkpoint, limit int) ([]eventstore.Event, error) // is readAfter
	row          checkpointRow                                                                     // nil when only a store is written
	epoch        int64                                                                             // of the owner
	generation   int64
	status       State // of the projection, when the applier is the live one
	live         bool
	storeFlipped bool // the store has had this generation made live since its checkpoint was read

	previous any // of the batch that was committed last, nil when it is not known what the rows are

	limit, maxLimit int // events in the next batch; below maxLimit while one that cannot be written is being found

	parked     map[uuid.UUID]bool // streams whose events are not applied, see parking.go
	failing    int64              // position of an event that failed and is to be tried again, 0 when there is none
	retryLimit int                // as limit, for the events of a parked stream
	nextRetry  time.Time          // when to look next for a parked stream that is due
}

// checkpointRow is the database row that holds the checkpoint of an applier. Both return errFenced when the applier has been taken from
// its owner: paused, cancelled, flipped, or gone to another instance.
type checkpointRow interface {
	// advance moves the checkpoint, by compare-and-set.
	advance(ctx context.Context, tx pgx.Tx, from, to Checkpoint) error
	// hold keeps the checkpoint where it is, and every other instance from taking over, until tx ends.
	hold(ctx context.Context, tx pgx.Tx, at Checkpoint) error
}

func newApplier(state *stateStore, limit int) *applier {
	return &applier{cfg: state.cfg, def: state.def, state: state, limit: limit, maxLimit: limit, retryLimit: limit}
}

// applyBatch applies the next batch. With an event that cannot be applied, those before it are, and the error is its.
func (a *applier) applyBatch(ctx context.Context) (int64, error) {
	events, err := a.read(ctx, a.Checkpoint, min(a.limit, a.cfg.ReadBatch))
	if errors.Is(err, ErrLogTruncated) {
		return 0, fmt.Errorf("%w; a replay rebuilds the read model: server replay %s", err, a.def.ID)
	}
	if err != nil || len(events) == 0 {
		return 0, err
	}
	b, foldErr := a.fold(events)
	if b.count == 0 {
		return 0, foldErr
	}
	if foldErr == nil && len(events) == a.cfg.ReadBatch {
		if err := a.extend(ctx, b); err != nil {
			return 0, err
		}
	}
	a.previous = nil // whatever becomes of it
	err = a.commit(ctx, events[:min(int64(len(events)), b.count)], b)
	if err != nil {
		return 0, a.bisect(ctx, events, b, err)
	}
	a.advanced(b)
	a.limit = min(2*a.limit, a.maxLimit)
	return b.count, foldErr
}

// extend reads and folds on, piece by piece, until the batch is as large as it may be: what is written is then large,
// and what is read at once small. Where it meets an event that cannot be applied, the error is errRetryNow, and the next
// batch ends before that piece.
func (a *applier) extend(ctx context.Context, b *batch) error {
	for b.count < int64(a.limit) && !b.full() {
		limit := min(a.limit-int(b.count), a.cfg.ReadBatch)
		before := b.count
		events, err := a.read(ctx, b.last, limit)
		if errors.Is(err, ErrLogTruncated) {
			a.limit = int(before) // the next step finds out whether the log still holds what comes before
			return errRetryNow
		}
		if err != nil {
			return err
		}
		if n, gap := contiguous(events, b.last.Position); gap != nil || b.add(events[:n], a.parked) != nil {
			a.limit = int(before)
			return errRetryNow
		}
		if len(events) < limit {
			return nil
		}
	}
	return nil
}

// commit writes a batch in a transaction of its own.
func (a *applier) commit(ctx context.Context, events []eventstore.Event, b *batch) error {
	done := func(error) {}
	if a.live && a.cfg.Applying != nil {
		ctx, done = a.cfg.Applying(ctx, a.def.ID, events)
	}
	var err error
	if a.def.store != nil {
		err = a.applyToStore(ctx, b)
	}
	if err == nil && a.row != nil {
		err = a.state.begin(ctx, func(tx pgx.Tx) error { return a.write(ctx, tx, b) })
	}
	done(err)
	return err
}

// applyToStore applies a batch to the store.
func (a *applier) applyToStore(ctx context.Context, b *batch) error {
	if a.live {
		a.state.flipping.Lock()
		defer a.state.flipping.Unlock()
	}
	err := catchPanic(func() error { return a.def.store.Apply(ctx, a.epoch, a.generation, a.Checkpoint, b.last, b.fold) })
	return a.storeError(err)
}

func (a *applier) storeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrFenced):
		return errFenced
	}
	return fmt.Errorf("%w of %s: %w", errStore, a.def.ID, err)
}

// align moves the row to the checkpoint that the store has.
func (a *applier) align(ctx context.Context) error {
	if a.def.store == nil {
		return nil
	}
	at, err := a.def.store.Checkpoint(ctx, a.epoch, a.generation)
	if err != nil {
		return a.storeError(err)
	}
	if at != a.Checkpoint && a.row != nil {
		if err := a.state.begin(ctx, func(tx pgx.Tx) error { return a.row.advance(ctx, tx, a.Checkpoint, at) }); err != nil {
			return err
		}
	}
	a.Checkpoint, a.storeFlipped = at, false
	return nil
}

// fold folds the events that follow on the applier's position, asserting that none is missing. With an error, which is an
// *EventError, the batch holds the events before that one.
func (a *applier) fold(events []eventstore.Event) (*batch, error) {
	n, gap := contiguous(events, a.Position)
	b, err := foldEvents(a.cfg, a.def, events[:n], a.parked)
	if continuer, ok := b.fold.(Continuer); ok && a.previous != nil {
		continuer.Continue(a.previous.(Fold))
		a.previous = nil
	}
	if err == nil {
		err = gap
	}
	return b, err
}

// write puts into tx what a batch comes to: the checkpoint, the rows, and what waits for parked streams.
func (a *applier) write(ctx context.Context, tx pgx.Tx, b *batch) error {
	if err := a.row.advance(ctx, tx, a.Checkpoint, b.last); err != nil {
		return err
	}
	if a.failing != 0 && a.failing <= b.last.Position {
		if err := a.state.forgetFailure(ctx, tx, a.generation, a.failing); err != nil {
			return err
		}
	}
	if err := a.state.countWaiting(ctx, tx, a.generation, b.waiting); err != nil {
		return err
	}
	return b.flush(ctx, tx, a.generation)
}

// advanced takes note of a batch that is committed.
func (a *applier) advanced(b *batch) {
	a.Checkpoint, a.previous = b.last, b.fold
	if a.failing <= b.last.Position {
		a.failing = 0
	}
}

// bisect makes the next batch smaller when one could not be written for a reason that may lie in one of its events,
// down to the event itself, so that all before it are applied and the error names it.
func (a *applier) bisect(ctx context.Context, events []eventstore.Event, b *batch, err error) error {
	switch {
	case ctx.Err() != nil, b.applied == 0, a.def.store != nil, !a.cfg.mayBlameEvent(err):
		return err
	case b.count == 1:
		a.limit = 1
		return &EventError{Position: b.last.Position, Err: err, event: &events[0]}
	}
	a.limit = int(b.count / 2)
	return errRetryNow
}

// mayBlameEvent tells whether the reason why a fold could not be written may lie in an event of it: it is an error of the read
// model, or PostgreSQL's of what it was given. What is wrong with the database or the schema is no event's fault.
func (c *Config) mayBlameEvent(err error) bool {
	if errors.Is(err, errFenced) || c.Transient(err) {
		return false
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	// 21 cardinality violation, 22 data exception, 23 integrity constraint violation, 54 program limit exceeded
	// (a value too long for an index), P0 raised by a function.
	for _, class := range []string{"21", "22", "23", "54", "P0"} {
		if strings.HasPrefix(refused.Code, class) {
			return true
		}
	}
	return false
}
