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

// Config configures a Service. Its numbers limit memory and latency, and do not affect correctness.
type Config struct {
	Store *eventstore.Store
	// Settled, if set, is called once for every command that is not a dry run, with its error if it was not applied. Commands wait
	// for it, so it must be quick and must not block.
	Settled func(c account.Command, replayed bool, err error)
	// Appended, if set, is called after each append that wrote events, with their number and how long the append took. It must not
	// block.
	Appended func(events int, took time.Duration)
	// Appending, if set, is called before each append, for tracing. It returns the context for the append, and a function that is
	// called with the append's error afterwards.
	Appending func(ctx context.Context, b *eventstore.Batch) (context.Context, func(error))
	// QueueSize is how many calls of Do may wait before the next one fails with ErrOverloaded, 0 for 4,096; CacheSize is the capacity of
	// the account cache, 0 for 100,000.
	QueueSize, CacheSize int
}

// Service takes commands from any number of goroutines and appends them in batches.
type Service struct {
	config Config // with its defaults
	store  *eventstore.Store
	queue  *queue

	// Owned by the batcher, the goroutine of Run.
	accounts  accounts
	contended int // how many more batches begin with the append lock

	running atomic.Bool
	began   atomic.Int64 // when the current batch was taken, in nanoseconds since 1970; 0 if there is none
}

// New returns a Service, which does nothing until Run.
func New(c Config) (*Service, error) {
	c.QueueSize, c.CacheSize = cmp.Or(max(c.QueueSize, 0), 4096), cmp.Or(max(c.CacheSize, 0), 100_000)
	if c.Appending == nil {
		c.Appending = func(ctx context.Context, _ *eventstore.Batch) (context.Context, func(error)) {
			return ctx, func(error) {}
		}
	}
	cache, err := simplelru.NewLRU[uuid.UUID, *held](c.CacheSize, nil)
	if err != nil {
		return nil, fmt.Errorf("command: cache: %w", err)
	}
	return &Service{config: c, store: c.Store, queue: newQueue(c.QueueSize), accounts: accounts{cache: cache, unsealed: make(eventstore.UnsealedError)}}, nil
}

// stalledAfter is how long a batch may take before the write side counts as stalled: a batch makes several calls to the log, each
// with a time limit.
const stalledAfter = 6 * storeTimeout

// Stalled returns an error that says why the write side takes no commands, or nil. It does not query the database.
func (s *Service) Stalled() error {
	if !s.running.Load() {
		return errors.New("the batcher is not running")
	}
	if began := s.began.Load(); began != 0 && time.Since(time.Unix(0, began)) > stalledAfter {
		return errors.New("a batch has been running for more than a minute")
	}
	return nil
}

// Do decides one command, appends its events and returns when they are durable. If the command is not applied, it returns an error
// of account.Decide, account.Index or this package. After any other error, such as one of the database, the outcome is unknown.
// When ctx ends, Do returns its error; a command that the batcher has taken may still be applied.
func (s *Service) Do(ctx context.Context, r Request) (Result, error) {
	o := s.each(ctx, false, []Request{r})[0]
	return o.Result, o.Err
}

// DoEach decides commands in order, each on the state after those before it, and returns for each what Do would. A refusal does
// not affect the others. They may be appended in several batches, in which single commands go first.
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
			outcomes[i].Err = err // the batcher may still be using the groups
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

// DoAll decides commands in order and appends the events of all of them, or of none. If a command is refused the error is an
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

// submit queues a call and waits until its groups hold their answers.
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

// count reports the outcomes of a finished group's requests to Settled.
func (s *Service) count(g *group) {
	for i := range g.requests {
		if r := &g.requests[i]; !r.DryRun && s.config.Settled != nil {
			s.config.Settled(r.Command, g.err == nil && g.results[i].Replayed, g.err)
		}
	}
}

// Queued returns how many commands and atomic groups are waiting in the queue.
func (s *Service) Queued() int { return s.queue.length() }
