package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
)

// An event that a handler cannot apply is tried maxAttempts times. Then its stream is parked: the checkpoint moves past the
// stream's events, which are counted in its row of projection_failures in the same transaction, and every other stream
// continues. So each event up to the checkpoint is either applied or waits: those of a parked stream wait from the row's position
// on. When the stream is retried, they are read from the log again, in order. Each of these steps holds the checkpoint
// (checkpointRow.hold), so an owner that was replaced can neither park nor drain.

// firstRetryDelay is the pause after the first of maxAttempts. Each further pause is twice as long: 0.35 s in all.
const firstRetryDelay = 50 * time.Millisecond

// load reads which streams are parked in the applier's generation, and which event is being retried.
func (a *applier) load(ctx context.Context) (err error) {
	a.parked, a.failing, err = a.state.loadFailures(ctx, a.generation)
	return err
}

// applyNext applies the next batch and returns the number of its events, 0 at the end of the log. If a handler cannot apply an event,
// it applies and counts those before it, records the failure, and returns errRetryNow.
func (a *applier) applyNext(ctx context.Context) (int64, error) {
	began := time.Now()
	n, err := a.applyBatch(ctx)
	if n > 0 && a.live {
		a.cfg.Observe(a.def.ID, n, time.Since(began))
	}
	if failed, ok := errors.AsType[*EventError](err); ok && failed.event != nil && a.def.store == nil {
		err = a.failed(ctx, failed)
	}
	return n, err
}

// failed records that an event could not be applied, waits a little or parks its stream, and returns errRetryNow. It returns another
// error if too many streams are parked already, because the cause is then probably not in the events.
func (a *applier) failed(ctx context.Context, cause *EventError) error {
	a.cfg.warn(ctx, a.def.ID, "applying an event failed; retrying", cause)
	attempts, parked, err := a.record(ctx, cause.event, cause.Err)
	switch {
	case err != nil:
		return err
	case parked:
		a.parked[cause.event.StreamID], a.failing = true, 0
		a.cfg.Logger.ErrorContext(ctx, "a stream is parked", "projection", a.def.ID, "generation", a.generation,
			"stream", cause.event.StreamID, "position", cause.Position, "error", cause.Err)
		return errRetryNow
	case attempts >= maxAttempts:
		return fmt.Errorf("%d streams are parked, and no more may be: %w", len(a.parked), cause)
	}
	a.failing = cause.Position
	sleep(ctx, firstRetryDelay<<(attempts-1))
	return errRetryNow
}

// record records a failure in a transaction of its own, since that of the batch is rolled back.
func (a *applier) record(ctx context.Context, e *eventstore.Event, cause error) (attempts int, parked bool, err error) {
	err = a.state.begin(ctx, func(tx pgx.Tx) error {
		if err := a.row.hold(ctx, tx, a.Checkpoint); err != nil {
			return err
		}
		attempts, parked, err = a.state.recordFailure(ctx, tx, a.generation, e, cause, len(a.parked) < a.cfg.MaxParked)
		return err
	})
	return attempts, parked, err
}

// retry retries a parked stream, if one is due: it applies the stream's next events, up to a batch, and reports whether it tried. The
// rows of the read model and the parked stream's row change in one transaction.
func (a *applier) retry(ctx context.Context) (bool, error) {
	if len(a.parked) == 0 || time.Now().Before(a.nextRetry) {
		return false, nil
	}
	p, ok, err := a.state.dueStream(ctx, a.generation)
	if err != nil || !ok {
		a.nextRetry = time.Now().Add(a.cfg.Poll)
		return false, err
	}
	// One more than is applied, to know which event the stream continues with.
	want := min(int64(a.retryLimit), p.waiting)
	events, err := a.cfg.Log.Select(ctx, p.next.Position-1, a.Position, eventstore.Selection{StreamID: p.next.StreamID}, int(want)+1)
	if err != nil {
		return true, err
	}
	if int64(len(events)) < min(want+1, p.waiting) || events[0].EventID != p.next.EventID {
		return true, a.recordStillParked(ctx, &p.next, fmt.Errorf("%w: not all events that wait are in the log", ErrGap))
	}
	b, err := foldEvents(a.cfg, a.def, events[:want], nil)
	if b.count == 0 {
		return true, a.recordStillParked(ctx, &p.next, err)
	}
	err = a.state.begin(ctx, func(tx pgx.Tx) error { return a.drain(ctx, tx, p, b, events) })
	switch {
	case err == nil:
		a.retryLimit = min(2*a.retryLimit, a.maxLimit)
		if b.count == p.waiting {
			delete(a.parked, p.next.StreamID)
			a.cfg.Logger.InfoContext(ctx, "a parked stream was drained", "projection", a.def.ID, "stream", p.next.StreamID)
		}
	case a.cfg.Transient(err), errors.Is(err, errFenced), ctx.Err() != nil:
		return true, err
	case b.count > 1:
		a.retryLimit = int(b.count / 2)
	default:
		return true, a.recordStillParked(ctx, &p.next, err)
	}
	return true, nil
}

// recordStillParked records that a parked stream could not be drained.
func (a *applier) recordStillParked(ctx context.Context, e *eventstore.Event, cause error) error {
	if at, ok := errors.AsType[*EventError](cause); ok {
		cause = at.Err // the row says which event it is
	}
	a.cfg.warn(ctx, a.def.ID, "retrying a parked stream failed; it stays parked", &EventError{Position: e.Position, Err: cause})
	_, _, err := a.record(ctx, e, cause)
	return err
}

// drain writes events of a parked stream, which then no longer wait.
func (a *applier) drain(ctx context.Context, tx pgx.Tx, p parkedStream, b *batch, events []eventstore.Event) error {
	if err := a.row.hold(ctx, tx, a.Checkpoint); err != nil {
		return err
	}
	if err := b.flush(ctx, tx, a.generation); err != nil {
		return err
	}
	if b.count == p.waiting {
		return a.state.unpark(ctx, tx, a.generation, p)
	}
	return a.state.drained(ctx, tx, a.generation, p, b.count, &events[b.count])
}

// retryAll tries every parked stream once.
func (a *applier) retryAll(ctx context.Context) error {
	if len(a.parked) == 0 {
		return nil
	}
	if err := a.state.askRetryAll(ctx, a.generation); err != nil {
		return err
	}
	a.nextRetry = time.Time{}
	for ctx.Err() == nil {
		if tried, err := a.retry(ctx); err != nil || !tried {
			return err
		}
	}
	return ctx.Err()
}
