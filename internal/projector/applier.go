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

// errRetryNow means that the caller should repeat the step at once: a failure was recorded, the next batch was made smaller, or a
// parked stream was retried. Events may have been applied before that.
var errRetryNow = errors.New("the step is to be repeated")

// errStore means that a Store has failed. The step is retried until it succeeds.
var errStore = errors.New("the store")

// applier applies the log to one generation of a projection: to the live one (runLive, follow), or to the one that a replay or a
// rollback makes live (runReplay). It belongs to one goroutine.
type applier struct {
	Checkpoint // the last event applied

	cfg          *Config
	def          *Projection
	state        *stateStore
	read         func(ctx context.Context, from Checkpoint, limit int) ([]eventstore.Event, error) // reads as readAfter does
	row          checkpointRow                                                                     // nil when only a store is written
	epoch        int64                                                                             // of the owner
	generation   int64
	status       State // of the projection, when the applier is the live one
	live         bool
	storeFlipped bool // the store made this generation live after its checkpoint was read

	previous any // the fold of the batch committed last; nil when something else may have changed the rows since

	limit, maxLimit int // events in the next batch; less than maxLimit while bisect searches for one that cannot be written

	parked     map[uuid.UUID]bool // streams whose events are not applied, see parking.go
	failing    int64              // position of an event that failed and will be retried, 0 when there is none
	retryLimit int                // like limit, for the events of a parked stream
	nextRetry  time.Time          // when to look for a due parked stream again
}

// checkpointRow is the database row that holds the checkpoint of an applier. Its methods return errFenced when the applier may not
// continue: it was paused, cancelled or flipped, or another instance owns the projection.
type checkpointRow interface {
	// advance moves the checkpoint, by compare-and-set.
	advance(ctx context.Context, tx pgx.Tx, from, to Checkpoint) error
	// hold keeps the checkpoint where it is until tx ends, and other instances from taking over.
	hold(ctx context.Context, tx pgx.Tx, at Checkpoint) error
}

func newApplier(state *stateStore, limit int) *applier {
	return &applier{cfg: state.cfg, def: state.def, state: state, limit: limit, maxLimit: limit, retryLimit: limit}
}

// applyBatch applies the next batch and returns the number of its events. If one cannot be applied, it applies those before it and
// returns an error that names it.
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
	a.previous = nil // until the commit has succeeded
	err = a.commit(ctx, events[:min(int64(len(events)), b.count)], b)
	if err != nil {
		return 0, a.bisect(ctx, events, b, err)
	}
	a.advanced(b)
	a.limit = min(2*a.limit, a.maxLimit)
	return b.count, foldErr
}

// extend reads and folds more events, chunk by chunk, until the batch is as large as it may be: writes are then large although
// reads are small. At an event that cannot be applied it returns errRetryNow, and the next batch ends before that chunk.
func (a *applier) extend(ctx context.Context, b *batch) error {
	for b.count < int64(a.limit) && !b.full() {
		limit := min(a.limit-int(b.count), a.cfg.ReadBatch)
		before := b.count
		events, err := a.read(ctx, b.last, limit)
		if errors.Is(err, ErrLogTruncated) {
			a.limit = int(before) // the next step checks whether the log still holds the events before
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

// align sets the checkpoint of the applier and of the row to the store's.
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

// fold folds events, which must continue from the applier's position without a gap. An error is an *EventError; the batch then
// holds the events before that one.
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

// write writes a batch in tx: the checkpoint, the rows, and the number of events that wait for parked streams.
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

// advanced updates the applier after a batch was committed.
func (a *applier) advanced(b *batch) {
	a.Checkpoint, a.previous = b.last, b.fold
	if a.failing <= b.last.Position {
		a.failing = 0
	}
}

// bisect halves the next batch when one could not be written and one of its events may be the cause. Once the batch is that one
// event, all before it are applied, and the error names it.
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

// mayBlameEvent reports whether an event may be the cause of an error in writing a fold: the error is the read model's, or
// PostgreSQL refused the values. An event is never the cause of what is wrong with the database or the schema.
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
