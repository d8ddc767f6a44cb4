package command

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

// Bounds of the write side. They bound memory and latency, never correctness.
const (
	// maxBatch is how many units an append is filled up to; well past the point where the commit's cost is spread thin.
	// A call is never split, so that there can be more.
	maxBatch = 1024
	// defaultQueue is how many calls may wait before the next is refused with ErrOverloaded.
	defaultQueue = 4096
	// defaultCache is how many accounts are kept decided and ready.
	defaultCache = 100_000
	// maxTries is how often a command is decided again after another instance was first; after triesInTurn of them, with the
	// append lock held.
	maxTries, triesInTurn = 16, 3
	// defaultKeepKeys is how long an idempotency key is good for.
	defaultKeepKeys = 24 * time.Hour
	// storeTimeout bounds one call of the log, beyond the lock and statement timeouts of the database.
	storeTimeout = 10 * time.Second
)

// Config is what a Service is made of. Zero numbers take the defaults.
type Config struct {
	Store *eventstore.Store
	// Logger hears of upkeep that failed; nil discards.
	Logger *slog.Logger
	// Appended, if set, is called after each batch that wrote events, with the position of the last one. It must not
	// block: it is where the projector is woken.
	Appended func(position int64)
	// Meter, if set, is told what becomes of commands and batches.
	Meter Meter
	// Appending, if set, is called before each append; what it answers is the context of the append, and is called with
	// its error when it is over. It is for tracing.
	Appending func(ctx context.Context, units []eventstore.Unit) (context.Context, func(error))
	// QueueSize is how many commands may wait; CacheSize how many accounts are kept in memory.
	QueueSize, CacheSize int
	// KeepKeys is how long idempotency keys are kept, to within a minute or so.
	KeepKeys time.Duration
}

// Meter counts what the write side does. Its methods are called on the path of every command, so they must be quick and
// must not block.
type Meter interface {
	// Settled is called once for every command that was asked for, with its error if it was not applied.
	Settled(c account.Command, replayed bool, err error)
	// Batch is called for every append that the log answered, with how many events were given to it and how long it took.
	Batch(events int, took time.Duration)
}

// noMeter is the Meter of a Service that has none.
type noMeter struct{}

func (noMeter) Settled(account.Command, bool, error) {}
func (noMeter) Batch(int, time.Duration)             {}

// Service takes commands from any number of goroutines and appends them in batches: all commands that arrive while
// one batch commits ride in the next, without any timer (group commit).
type Service struct {
	store    *eventstore.Store
	appended func(int64)
	queue    chan *call
	waiting  atomic.Int64  // units in the queue
	some     chan struct{} // holds one: there is a call in the queue
	many     chan struct{} // holds one: the queue has become large
	// turn holds one, which whoever decides and appends takes out: Run, or a caller of Do that finds nobody at it.
	turn chan struct{}
	// work is what is done under, whoever does it; of Run.
	work context.Context //nolint:containedctx // a caller that takes its turn does the work of Run
	// cache belongs to whoever has the turn. What it holds may be behind the log when other instances write; that
	// costs a conflict and never correctness, since the append checks every version.
	cache *simplelru.LRU[uuid.UUID, aggregate]
	// past is what all that is cached was read from, and belongs to whoever has the turn too.
	past   eventstore.Past
	upkeep *upkeep
	meter  Meter
	// appending is nil without tracing.
	appending func(context.Context, []eventstore.Unit) (context.Context, func(error))

	mu       sync.Mutex
	inFlight map[[16]byte]struct{} // idempotency keys not answered yet
	stopping chan struct{}
}

// New makes a Service. Nothing happens until Run.
func New(c Config) (*Service, error) {
	if c.QueueSize <= 0 {
		c.QueueSize = defaultQueue
	}
	if c.CacheSize <= 0 {
		c.CacheSize = defaultCache
	}
	cache, err := simplelru.NewLRU[uuid.UUID, aggregate](c.CacheSize, nil)
	if err != nil {
		return nil, fmt.Errorf("command: cache: %w", err)
	}
	if c.KeepKeys <= 0 {
		c.KeepKeys = defaultKeepKeys
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Appended == nil {
		c.Appended = func(int64) {}
	}
	if c.Meter == nil {
		c.Meter = noMeter{}
	}
	return &Service{
		store: c.Store, appended: c.Appended, cache: cache, meter: c.Meter, appending: c.Appending,
		upkeep:   &upkeep{store: c.Store, log: c.Logger, keepKey: c.KeepKeys, unsaved: make(map[uuid.UUID]aggregate)},
		queue:    make(chan *call, c.QueueSize),
		some:     make(chan struct{}, 1),
		many:     make(chan struct{}, 1),
		turn:     make(chan struct{}, 1),
		inFlight: make(map[[16]byte]struct{}),
		stopping: make(chan struct{}),
	}, nil
}

// unit is what stands or falls together: one request, or the requests of one DoAll.
type unit struct {
	call     *call
	requests []Request
	// The answer, once settled: a result for each request, or an error.
	results []Result
	err     error
}

// call is the units that one caller waits for. Once queued it belongs to whoever has the turn, until done is closed.
type call struct {
	// ctx is the caller's: when it ends before the call is taken up, the call is dropped.
	ctx   context.Context
	units []unit
	open  int // units not settled yet
	done  chan struct{}
}

// Outcome is what became of one command of DoEach: Result, or the error that Do would have returned.
type Outcome struct {
	Result Result
	Err    error
}

// ItemError says which of the commands of a DoAll was refused, and why.
type ItemError struct {
	Index int
	Err   error
}

func (e *ItemError) Error() string { return fmt.Sprintf("command %d: %v", e.Index, e.Err) }

func (e *ItemError) Unwrap() error { return e.Err }

// Do decides one command and appends its events. It returns when they are durable, or with the reason why there are
// none: account.ErrNotFound, account.ErrExists, *account.Refusal, or an error of this package. Any other error is the
// database's; the outcome is then not known. When ctx ends while the command is in the queue, or in an append under way that
// is another's, Do returns its error; the command may still be applied unless it was in the queue.
func (s *Service) Do(ctx context.Context, r Request) (Result, error) {
	c := &call{ctx: ctx, units: []unit{{requests: []Request{r}}}}
	if err := s.submit(c, false); err != nil {
		return Result{}, err
	}
	if u := &c.units[0]; u.err == nil {
		return u.results[0], nil
	}
	return Result{}, itemless(c.units[0].err)
}

// DoEach decides commands in order, each on what the ones before it left, and answers for each as Do would. They are
// appended together; one that is refused does not hold up the others. Unlike Do it waits for a place in the queue.
func (s *Service) DoEach(ctx context.Context, requests []Request) []Outcome {
	outcomes := make([]Outcome, len(requests))
	if len(requests) == 0 {
		return outcomes
	}
	c := &call{ctx: ctx, units: make([]unit, len(requests))}
	for i := range requests {
		c.units[i].requests = requests[i : i+1 : i+1]
	}
	err := s.submit(c, true)
	for i := range outcomes {
		switch u := &c.units[i]; {
		case err != nil:
			outcomes[i].Err = err
		case u.err != nil:
			outcomes[i].Err = itemless(u.err)
		default:
			outcomes[i].Result = u.results[0]
		}
	}
	return outcomes
}

// DoAll decides commands in order and appends the events of all of them, or of none. A command that is refused comes
// as an *ItemError; any other error concerns them all. With keys, either all of them are repeated or none.
func (s *Service) DoAll(ctx context.Context, requests []Request) ([]Result, error) {
	c := &call{ctx: ctx, units: []unit{{requests: requests}}}
	if err := s.submit(c, true); err != nil {
		return nil, err
	}
	return c.units[0].results, c.units[0].err
}

// itemless takes off the index that a unit of a single request has no use for.
func itemless(err error) error {
	if item, ok := err.(*ItemError); ok { //nolint:errorlint // wrapped by nobody
		return item.Err
	}
	return err
}

// submit queues a call and waits for its answers, which are then in its units. With wait it waits for a place in the
// queue too.
func (s *Service) submit(c *call, wait bool) error {
	c.done = make(chan struct{})
	for i := range c.units {
		c.units[i].call = c
		if !s.claimKeys(c.units[i].requests) {
			c.units[i].err = ErrKeyInFlight
			s.count(&c.units[i])
			continue
		}
		c.open++
	}
	if c.open == 0 || !wait && s.appendNow(c) {
		return nil
	}
	if err := s.enqueue(c, wait); err != nil {
		for i := range c.units {
			if u := &c.units[i]; u.err == nil {
				s.releaseKeys(u.requests)
				s.meterAll(u.requests, err)
			}
		}
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-s.stopping:
		// All that was taken up is settled by now; the rest never will be taken up.
		select {
		case <-c.done:
			return nil
		default:
			return ErrUnavailable
		}
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (s *Service) enqueue(c *call, wait bool) error {
	select {
	case <-s.stopping:
		return ErrUnavailable
	default:
	}
	waiting := s.waiting.Add(int64(len(c.units)))
	err := s.put(c, wait)
	if err != nil {
		s.waiting.Add(-int64(len(c.units)))
		return err
	}
	poke(s.some)
	if waiting >= large {
		poke(s.many)
	}
	return nil
}

// poke makes sure that there is something in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Service) put(c *call, wait bool) error {
	if wait {
		select {
		case s.queue <- c:
			return nil
		case <-s.stopping:
			return ErrUnavailable
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	select {
	case s.queue <- c:
		return nil
	default:
		return ErrOverloaded
	}
}

// claimKeys enters the requests' keys as in flight, or none of them when one already is.
func (s *Service) claimKeys(requests []Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range requests {
		k := requests[i].Key
		if k == nil {
			continue
		}
		if _, taken := s.inFlight[k.Hash]; taken {
			for j := range i {
				if earlier := requests[j].Key; earlier != nil {
					delete(s.inFlight, earlier.Hash)
				}
			}
			return false
		}
		s.inFlight[k.Hash] = struct{}{}
	}
	return true
}

func (s *Service) releaseKeys(requests []Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range requests {
		if k := requests[i].Key; k != nil {
			delete(s.inFlight, k.Hash)
		}
	}
}

// count tells the meter what became of the requests of a unit that is settled.
func (s *Service) count(u *unit) {
	if u.err != nil {
		s.meterAll(u.requests, u.err)
		return
	}
	for i := range u.requests {
		s.meter.Settled(u.requests[i].Command, u.results[i].Replayed, nil)
	}
}

func (s *Service) meterAll(requests []Request, err error) {
	for i := range requests {
		s.meter.Settled(requests[i].Command, false, err)
	}
}

// Queued is how many units of commands wait to be taken up.
func (s *Service) Queued() int { return int(s.waiting.Load()) }

// finish settles a unit and frees its keys; with the last unit of a call its caller goes on. The keys go first: whoever
// has the answer may use the key again at once.
func (s *Service) finish(u *unit, results []Result, err error) {
	s.releaseKeys(u.requests)
	u.results, u.err = results, err
	s.count(u)
	if u.call.open--; u.call.open == 0 {
		close(u.call.done)
	}
}

// forget empties the cache.
func (s *Service) forget() {
	s.cache.Purge()
	s.past.Forget()
}

// fill takes what has queued up meanwhile, without waiting for more.
func (s *Service) fill(batch []*unit) []*unit {
	for len(batch) < maxBatch {
		select {
		case c := <-s.queue:
			batch = s.take(batch, c)
		default:
			return batch
		}
	}
	return batch
}

// take adds the units of a call from the queue to the batch.
func (s *Service) take(batch []*unit, c *call) []*unit {
	s.waiting.Add(-int64(len(c.units)))
	return s.admit(batch, c)
}

// admit adds the units of a call to the batch, unless its caller has hung up while it waited.
func (s *Service) admit(batch []*unit, c *call) []*unit {
	gone := c.ctx.Err()
	for i := range c.units {
		u := &c.units[i]
		switch {
		case u.err != nil: // its key was in flight
		case gone != nil:
			s.finish(u, nil, gone)
		default:
			batch = append(batch, u)
		}
	}
	return batch
}

func (s *Service) stop() {
	close(s.stopping)
	for {
		select {
		case c := <-s.queue:
			s.waiting.Add(-int64(len(c.units)))
			for i := range c.units {
				if c.units[i].err == nil {
					s.finish(&c.units[i], nil, ErrUnavailable)
				}
			}
		default:
			return
		}
	}
}
