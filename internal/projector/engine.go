package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Engine runs projections. At most one engine on a database applies a projection at a time, and another takes over when its lease
// expires.
type Engine struct {
	cfg     Config
	log     *tailCache
	workers map[string]*worker
	order   []string
}

// New makes an Engine for the projections, which does nothing until Run. It fails if a required field of Config is missing or an id is
// used twice.
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
	e := &Engine{cfg: cfg, log: log, workers: make(map[string]*worker)}
	for _, p := range projections {
		if e.workers[p.ID] != nil {
			return nil, fmt.Errorf("projector: projection %q is registered twice", p.ID)
		}
		e.workers[p.ID] = newWorker(&e.cfg, p)
		e.order = append(e.order, p.ID)
	}
	return e, nil
}

// Run applies the projections until ctx ends, then releases its leases and returns nil. While the database is unavailable it retries.
// It must be called once.
func (e *Engine) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, w := range e.workers {
		running.Go(func() { w.run(ctx) })
	}
	if e.cfg.Notifier != nil {
		running.Go(func() { e.listen(ctx) })
	}
	running.Wait()
	return nil
}

// Wake tells the engine that the log has grown. It never blocks; a lost call costs one poll interval.
func (e *Engine) Wake() {
	e.log.wake() // first, so that the workers read the log after what is cached
	for _, w := range e.workers {
		w.wake.set()
	}
}

// ShortenDelay cuts short the delay between a projection's batches, because a reader waits for it. It never blocks.
func (e *Engine) ShortenDelay(id string) {
	if w, ok := e.workers[id]; ok {
		w.shortenDelay.set()
	}
}

// listenRetry is the pause before listening again after LISTEN has failed.
const listenRetry = 500 * time.Millisecond

// listen calls Wake when another instance has appended. While LISTEN fails, the workers find new events by polling.
func (e *Engine) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := e.cfg.Notifier.Listen(ctx, e.Wake); err != nil && ctx.Err() == nil {
			e.cfg.Logger.WarnContext(ctx, "LISTEN failed; falling back to polling", "error", err)
		}
		sleep(ctx, listenRetry)
	}
}
