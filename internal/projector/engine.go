package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/eventstore"
)

// Log is what the engine reads. *eventstore.Store is one.
type Log interface {
	// Head answers the position of the last event, 0 for an empty log.
	Head(ctx context.Context) (int64, error)
	// ReadAfter answers at most limit events after a position, in order and without a gap.
	ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error)
	// Select answers, in order, at most limit of the selected events after a position and up to another.
	Select(ctx context.Context, after, upTo int64, sel eventstore.Selection, limit int) ([]eventstore.Event, error)
}

// Notifier tells of appends by other instances. *notify.Notifier is one.
type Notifier interface {
	// Listen calls wake at once, and then each time the log may have grown, until ctx ends or it cannot tell any more.
	Listen(ctx context.Context, wake func()) error
}

// runner is a projection as the engine drives it: a worker writes one to tables, a memoryRunner holds one in memory.
type runner interface {
	run(ctx context.Context) error
	wakeUp()
	status(ctx context.Context, head int64) (Status, error)
	setPaused(ctx context.Context, paused bool) error
	startReplay(ctx context.Context) (Replay, error)
	replayOf(ctx context.Context, id uuid.UUID) (Replay, error)
	history(ctx context.Context, limit int) ([]Replay, error)
	cancelReplay(ctx context.Context, id uuid.UUID) (Replay, error)
	rollback(ctx context.Context) error
	failures(ctx context.Context, after int64, limit int) ([]Failure, error)
	askRetry(ctx context.Context, position int64) (Failure, error)
}

// Config is what an Engine is made of. Zero durations and sizes take the defaults.
type Config struct {
	// Pool is for the projections' state and the read models; it stays the caller's to close.
	Pool *pgxpool.Pool
	Log  Log
	// Decode turns a stored event into the value its handlers take. It must know every type that is ever appended: an
	// error halts the projection at the event. Required.
	Decode func(eventType string, schemaVersion int, payload []byte) (any, error)
	// Transient tells the errors of a database that is away, which are waited out, from those that halt a projection.
	// Unset, none is transient.
	Transient func(error) bool
	// Logger, if set, is told of leases and replays that come and go, and of everything that is tried again.
	Logger *slog.Logger
	// Notifier, if set, wakes the engine when another instance has appended.
	Notifier Notifier
	// Applied, if set, is called with each position that a projection's live generation has reached in its tables, and
	// again when a parked stream was tried. It must not block.
	Applied func(projection string, position int64)
	// Observe, if set, is called with each batch that a projection has applied, and how long reading and applying it took.
	// It must not block.
	Observe func(projection string, events int64, took time.Duration)
	// Applying, if set, is called before each batch of a live generation is written; what it answers is the context of
	// that, and is called with its error when it is over. It is for tracing. Events have their metadata if Log reads it.
	Applying func(ctx context.Context, projection string, events []eventstore.Event) (context.Context, func(error))
	// Instance is the name under which leases are taken. Two engines that run at one time need two names.
	Instance string
	// Lease is how long an owner that has gone silent is waited for. Default 3 s; it is renewed at a third of that.
	Lease time.Duration
	// Poll is how often the log is looked at without having been woken. Default 200 ms.
	Poll time.Duration
	// BatchDelay is how long events are let gather after a batch that caught up; default 8 ms. Under load it makes few large
	// batches of many small ones, at the price of that much delay. After a batch that took long it is more, up to a quarter
	// of a second; ShortenDelay makes it half at most. An event that comes alone is applied at once.
	BatchDelay time.Duration
	// Batch is how many events are applied in one transaction at most, default 8,000; ReplayBatch the same for a
	// replay, default 56,000.
	Batch, ReplayBatch int
	// ReadBatch is how many events are read at once, default 8,000: what bounds the memory of a replay, whose batches
	// are of several such pieces.
	ReadBatch int
	// Retry is how often a parked stream is tried without having been asked for. Default 30 s.
	Retry time.Duration
	// tail is Log as those read it who follow it together.
	tail *tailCache
	// MaxParked is how many streams of a projection may be parked. With more, the reason will not be in the events, and
	// the projection halts. Default 100.
	MaxParked int
}

// Engine runs projections: at most one engine on a database applies a projection at a time, and another takes over
// when it goes silent.
type Engine struct {
	cfg     Config
	log     *tailCache
	runners map[string]runner
	order   []string
}

// New makes an Engine for the projections. Nothing happens until Run. The error is for a Config without what it
// needs, and for an id that is used twice.
func New(cfg Config, projections ...*Projection) (*Engine, error) {
	setDefault(&cfg.Lease, 3*time.Second)
	setDefault(&cfg.Poll, 200*time.Millisecond)
	setDefault(&cfg.BatchDelay, 8*time.Millisecond)
	setDefault(&cfg.Batch, 8_000)
	setDefault(&cfg.ReplayBatch, 56_000)
	setDefault(&cfg.ReadBatch, 8_000)
	setDefault(&cfg.Retry, 30*time.Second)
	setDefault(&cfg.MaxParked, 100)
	if cfg.Applied == nil {
		cfg.Applied = func(string, int64) {}
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, int64, time.Duration) {}
	}
	if cfg.Transient == nil {
		cfg.Transient = func(error) bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Instance == "" || cfg.Pool == nil || cfg.Log == nil || cfg.Decode == nil {
		return nil, errors.New("projector: an engine needs a pool, a log, a decoder and an instance name")
	}
	log := &tailCache{Log: cfg.Log, decode: cfg.Decode}
	cfg.tail = log
	e := &Engine{cfg: cfg, log: log, runners: make(map[string]runner)}
	for _, p := range projections {
		if e.runners[p.ID] != nil {
			return nil, fmt.Errorf("projector: projection %q is registered twice", p.ID)
		}
		if p.memory != nil {
			e.runners[p.ID] = newMemoryRunner(&e.cfg, p)
		} else {
			e.runners[p.ID] = newWorker(&e.cfg, p)
		}
		e.order = append(e.order, p.ID)
	}
	return e, nil
}

func setDefault[T time.Duration | int](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// Run applies the projections until ctx ends, then gives up its leases and returns nil. It survives a database that
// is away. It must be called once.
func (e *Engine) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, id := range e.order {
		group.Go(func() error { return e.runners[id].run(ctx) })
	}
	if e.cfg.Notifier != nil {
		group.Go(func() error { e.listen(ctx); return nil })
	}
	return group.Wait()
}

// Wake tells the engine that the log has grown. It never blocks; a lost call costs one poll interval.
func (e *Engine) Wake() {
	e.log.wake() // first: who is woken reads anew
	for _, p := range e.runners {
		p.wakeUp()
	}
}

// ShortenDelay tells the engine that somebody waits for a projection: a long rest of it is cut short. It never blocks.
func (e *Engine) ShortenDelay(id string) {
	if w, ok := e.runners[id].(*worker); ok {
		w.shortenDelay.set()
	}
}

// listenRetry is the pause after having lost the means to be woken by other instances.
const listenRetry = 500 * time.Millisecond

// listen is woken by other instances. While it cannot be, the log is polled, as it is anyway.
func (e *Engine) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := e.cfg.Notifier.Listen(ctx, e.Wake); err != nil && ctx.Err() == nil {
			e.cfg.Logger.WarnContext(ctx, "not told of appends by other instances; the log is polled until that is mended", "error", err)
		}
		sleep(ctx, listenRetry)
	}
}

// signal is a signal that is up or down: raising one that is up does nothing.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (f signal) set() {
	select {
	case f <- struct{}{}:
	default:
	}
}

// wait returns when the signal is raised, which lowers it, when the time is over, or when ctx ends.
func (f signal) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-f:
	case <-timer.C:
	case <-ctx.Done():
	}
}
