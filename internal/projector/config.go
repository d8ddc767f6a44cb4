package projector

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
)

// Notifier tells of appends by other instances. *notify.Notifier is one.
type Notifier interface {
	// Listen calls wake at once, and then each time the log may have grown, until ctx ends or it cannot tell any more.
	Listen(ctx context.Context, wake func()) error
}

// Config is what an Engine is made of. Zero durations and sizes take the defaults.
type Config struct {
	// Pool is for the projections' state and the read models; it stays the caller's to close.
	Pool *pgxpool.Pool
	Log  Log
	// Decode turns a stored event into the value its handlers take. It must know every type that is ever appended: an
	// error halts the projection at the event. Required.
	Decode func(eventType string, schemaVersion int, payload []byte) (any, error)
	// Transient tells the errors of an unavailable database, which are waited out, from those that halt a projection.
	// Unset, none is transient.
	Transient func(error) bool
	// Logger, if set, is told of leases and replays that come and go, and of everything that is retried.
	Logger *slog.Logger
	// Notifier, if set, wakes the engine when another instance has appended.
	Notifier Notifier
	// Applied, if set, is called with each position that a projection's live generation has reached in its tables, and
	// again when a parked stream was tried. It must not block.
	Applied func(projection string, position int64)
	// Observe, if set, is called with the number of events in each batch that this instance has applied to a live generation,
	// and how long reading and applying it took. It must not block.
	Observe func(projection string, events int64, took time.Duration)
	// Applying, if set, is called before each batch of a live generation is written; it returns the context of
	// that, and is called with its error when it is over. It is for tracing. Events have their metadata if Log reads it.
	Applying func(ctx context.Context, projection string, events []eventstore.Event) (context.Context, func(error))
	// Instance is the name under which leases are taken. Two engines that run at one time need two names.
	Instance string
	// Lease is how long an owner that has gone silent is waited for. Default 3 s; it is renewed at a third of that.
	Lease time.Duration
	// Poll is how often the log is looked at without having been woken. Default 200 ms.
	Poll time.Duration
	// BatchDelay is how long events may gather after a batch that caught up; default 8 ms. Under load it makes few large
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
	// tail is Log through a cache of its end, which the projections that follow it share.
	tail *tailCache
	// MaxParked is how many streams of a projection may be parked. With more, the reason will not be in the events, and
	// the projection halts. Default 100.
	MaxParked int
}

func setDefault[T time.Duration | int](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}

// decoded is what an event says.
func (c *Config) decoded(e *eventstore.Event) (any, error) {
	if e.Decoded != nil {
		return e.Decoded, nil
	}
	return c.Decode(e.Type, e.SchemaVersion, e.Payload)
}

// warn logs an error of something that is retried, unless the engine is being stopped.
func (c *Config) warn(ctx context.Context, projection, what string, err error) {
	if ctx.Err() == nil {
		c.Logger.WarnContext(ctx, what, "projection", projection, "error", err)
	}
}
