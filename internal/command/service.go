package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// Defaults of Config. They bound memory and latency, never correctness.
const (
	defaultQueue = 4096
	defaultCache = 100_000
)

// Config is what a Service is made of. Zero numbers take the defaults.
type Config struct {
	Store *eventstore.Store
	// Settled, if set, is called once for every command that was asked for, dry runs apart, with its error if it was not applied. It
	// is called on the path of every command, so it must be quick and must not block.
	Settled func(c account.Command, replayed bool, err error)
	// Appended, if set, is called after each append that wrote events, with how many there were and how long it took. It must not
	// block: it is where the projector is woken.
	Appended func(events int, took time.Duration)
	// Appending, if set, is called before each append. It returns the context of the append, and a function that is called
	// with the append's error when it is over. It is for tracing.
	Appending func(ctx context.Context, b *eventstore.Batch) (context.Context, func(error))
	// QueueSize is how many calls of Do may wait before the next is refused with ErrOverloaded; CacheSize is how many accounts
	// are kept in memory.
	QueueSize, CacheSize int
}

// Service takes commands from any number of goroutines and appends them in batches.
type Service struct {
	config Config // with its defaults
	store  *eventstore.Store
	queue  *queue

	// Of the batcher, the goroutine of Run.
	accounts  accounts
	contended int // how many batches more begin with the append lock

	running atomic.Bool
	began   atomic.Int64 // when the batch under way was taken, in nanoseconds since 1970; 0 between batches
}

// New makes a Service. Nothing happens until Run.
func New(c Config) (*Service, error) {
	c.QueueSize, c.CacheSize = cmp.Or(max(c.QueueSize, 0), defaultQueue), cmp.Or(max(c.CacheSize, 0), defaultCache)
	if c.Appending == nil {
		c.Appending = func(ctx context.Context, _ *eventstore.Batch) (context.Context, func(error)) {
			return ctx, func(error) {}
		}
	}
	cache, err := simplelru.NewLRU[uuid.UUID, *held](c.CacheSize, nil)
	if err != nil {
		return nil, fmt.Errorf("command: cache: %w", err)
	}
	return &Service{config: c, store: c.Store, queue: newQueue(c.QueueSize), accounts: accounts{cache: cache}}, nil
}

// stalledAfter is how long a batch may take before the write side counts as stalled: several calls of the log, each of which
// has a time limit.
const stalledAfter = 6 * storeTimeout

// Stalled returns why the write side takes no commands, or nil. It does not look at the database.
func (s *Service) Stalled() error {
	if !s.running.Load() {
		return errors.New("the batcher is not running")
	}
	if began := s.began.Load(); began != 0 && time.Since(time.Unix(0, began)) > stalledAfter {
		return errors.New("a batch has been under way for more than a minute")
	}
	return nil
}

// Do decides one command and appends its events. It returns when they are durable, or with the reason why there are none:
// account.ErrTransferExists, what account.Decide returns, or an error of this package. Any other error is the database's; the outcome
// is then unknown. When ctx ends Do returns its error; a command that has been taken may still be applied.
func (s *Service) Do(ctx context.Context, r Request) (Result, error) {
	o := s.each(ctx, false, []Request{r})[0]
	return o.Result, o.Err
}

// DoEach decides commands in order, each on what the ones before it left, and returns for each what Do would. One that is
// refused does not hold up the others. They need not be appended together, and single commands go before them.
func (s *Service) DoEach(ctx context.Context, requests []Request) []Outcome {
	return s.each(ctx, true, requests)
}

func (s *Service) each(ctx context.Context, bulk bool, requests []Request) []Outcome {
	outcomes := make([]Outcome, len(requests))
	c := &call{ctx: ctx, bulk: bulk, groups: make([]group, len(requests))}
	for i := range requests {
		c.groups[i].requests = requests[i : i+1 : i+1]
	}
	err := s.submit(c)
	for i := range outcomes {
		if err != nil {
			outcomes[i].Err = err // the groups may still be the batcher's
			continue
		}
		g := &c.groups[i]
		if g.err == nil {
			outcomes[i].Result = g.results[0]
		} else if item, ok := errors.AsType[*ItemError](g.err); ok {
			outcomes[i].Err = item.Err
		} else {
			outcomes[i].Err = g.err
		}
	}
	return outcomes
}

// DoAll decides commands in order and appends the events of all of them, or of none. A command that is refused comes as an
// *ItemError; any other error concerns them all. With keys, either all of them are replayed or none.
func (s *Service) DoAll(ctx context.Context, requests []Request) ([]Result, error) {
	c := &call{ctx: ctx, bulk: true, groups: []group{{requests: requests}}}
	if err := s.submit(c); err != nil {
		return nil, err
	}
	g := &c.groups[0]
	if g.err != nil {
		return nil, g.err
	}
	return g.results, nil
}

// submit queues a call and waits for its answers, which are then in its groups.
func (s *Service) submit(c *call) error {
	c.done = make(chan struct{})
	for i := range c.groups {
		c.groups[i].call = c
	}
	inFlight, err := s.queue.push(c)
	if err != nil {
		for i := range c.groups {
			c.groups[i].err = err
			s.count(&c.groups[i])
		}
		return err
	}
	for _, g := range inFlight {
		s.count(g)
	}
	select {
	case <-c.done:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// count reports what became of the requests of a group that is finished.
func (s *Service) count(g *group) {
	for i := range g.requests {
		if r := &g.requests[i]; !r.DryRun && s.config.Settled != nil {
			s.config.Settled(r.Command, g.err == nil && g.results[i].Replayed, g.err)
		}
	}
}

// Queued returns how many commands and atomic groups wait to be taken.
func (s *Service) Queued() int { return s.queue.length() }
