package projector

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
)

// Notifier notifies of appends by other instances. *notify.Notifier implements it.
type Notifier interface {
	// Listen calls wake at once, and then each time the log may have grown, until ctx ends or listening fails.
	Listen(ctx context.Context, wake func()) error
}

// Config configures an Engine. Zero durations and sizes mean the defaults.
type Config struct {
	// Pool is for the projections' state and the read models; the caller closes it.
	Pool *pgxpool.Pool
	Log  Log
	// Decode decodes a stored event into the value that handlers take. It must know every type that is ever appended: an
	// error halts the projection at the event. Required.
	Decode func(eventType string, schemaVersion int, payload []byte) (any, error)
	// Transient reports whether an error means that the database is unavailable. Such an error is retried and does not halt a
	// projection. If Transient is nil, every error halts.
	Transient func(error) bool
	// Logger, if set, logs leases taken and lost, replays, and every error that is retried.
	Logger *slog.Logger
	// Notifier, if set, wakes the engine when another instance has appended.
	Notifier Notifier
	// Applied, if set, is called with each position that a projection's live generation has reached, once it is stored, and
	// again after a parked stream was retried. It must not block.
	Applied func(projection string, position int64)
	// Observe, if set, is called with the number of events in each batch that this instance has applied to a live generation,
	// and how long reading and applying it took. It must not block.
	Observe func(projection string, events int64, took time.Duration)
	// Applying, if set, is called before each batch of a live generation is written, for tracing. It returns the context for
	// the write, and a function that is called with the write's error afterwards. Events have their metadata if Log reads it.
	Applying func(ctx context.Context, projection string, events []eventstore.Event) (context.Context, func(error))
	// Instance is the name under which leases are taken. Engines that run at the same time must have different names.
	Instance string
	// Lease is how long a lease lasts unless it is renewed, default 3 s. The owner renews it after a third of that.
	Lease time.Duration
	// Poll is how often the log is read when nothing wakes the engine, default 200 ms.
	Poll time.Duration
	// BatchDelay is the pause after a batch that caught up with the log, default 8 ms. Under load, events gather meanwhile, so
	// few large batches are applied instead of many small ones. After a batch that took long, the pause is longer, up to a
	// quarter of a second; ShortenDelay cuts it to at most half of BatchDelay. A lone event is applied at once.
	BatchDelay time.Duration
	// Batch is how many events are applied in one transaction at most, default 8,000; ReplayBatch the same for a
	// replay, default 56,000.
	Batch, ReplayBatch int
	// ReadBatch is how many events are read at once, default 8,000. It limits the memory of a replay: a batch of a replay is
	// folded from several reads.
	ReadBatch int
	// Retry is how often a parked stream is retried when RetryFailure does not ask for it, default 30 s.
	Retry time.Duration
	// tail is Log behind a cache of its end, which the projections share.
	tail *tailCache
	// MaxParked is how many streams of a projection may be parked, default 100. If one more fails, the cause is probably not in
	// the events, and the projection halts.
	MaxParked int
}

func setDefault[T time.Duration | int](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// decoded returns the decoded payload of an event.
func (c *Config) decoded(e *eventstore.Event) (any, error) {
	if e.Decoded != nil {
		return e.Decoded, nil
	}
	return c.Decode(e.Type, e.SchemaVersion, e.Payload)
}

// warn logs an error, unless the engine is being stopped.
func (c *Config) warn(ctx context.Context, projection, what string, err error) {
	if ctx.Err() == nil {
		c.Logger.WarnContext(ctx, what, "projection", projection, "error", err)
	}
}
