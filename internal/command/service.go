package command

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"passbook/internal/eventstore"
)

// Bounds of the write side. They bound memory and latency, never correctness.
const (
	// maxBatch is how many commands ride in one append; well past the point where the commit's cost is spread thin.
	maxBatch = 1024
	// defaultQueue is how many commands may wait before the next is refused with ErrOverloaded.
	defaultQueue = 4096
	// defaultCache is how many accounts are kept decided and ready.
	defaultCache = 100_000
	// maxTries is how often a command is decided again after another instance was first.
	maxTries = 16
	// storeTimeout bounds one call of the log, beyond the lock and statement timeouts of the database.
	storeTimeout = 10 * time.Second
)

// Config is what a Service is made of. Zero numbers take the defaults.
type Config struct {
	Store  *eventstore.Store
	Logger *slog.Logger
	// Appended, if set, is called after each batch that wrote events, with the position of the last one. It must not
	// block: it is where the projector is woken.
	Appended func(position int64)
	// QueueSize is how many commands may wait; CacheSize how many accounts are kept in memory.
	QueueSize, CacheSize int
}

// Service takes commands from any number of goroutines and appends them in batches: all commands that arrive while
// one batch commits ride in the next, without any timer (group commit).
type Service struct {
	store    *eventstore.Store
	log      *slog.Logger
	appended func(int64)
	queue    chan *pending
	// cache belongs to the goroutine of Run. What it holds may be behind the log when other instances write; that
	// costs a conflict and never correctness, since the append checks every version.
	cache *simplelru.LRU[uuid.UUID, aggregate]

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
	if c.Appended == nil {
		c.Appended = func(int64) {}
	}
	return &Service{
		store: c.Store, log: c.Logger, appended: c.Appended, cache: cache,
		queue:    make(chan *pending, c.QueueSize),
		inFlight: make(map[[16]byte]struct{}),
		stopping: make(chan struct{}),
	}, nil
}

// pending is a unit that waits in the queue: the requests of one caller that stand or fall together.
type pending struct {
	// ctx is the caller's: when it ends before the unit is taken up, the unit is dropped.
	ctx      context.Context
	requests []Request
	answer   chan answer // holds one, so that the loop never waits for a caller
}

type answer struct {
	results []Result
	err     error
}

// Do decides one command and appends its events. It returns when they are durable, or with the reason why there are
// none: account.ErrNotFound, account.ErrExists, *account.Refusal, or an error of this package. Any other error is the
// database's; the outcome is then not known. When ctx ends first, Do returns its error, and the command may still be
// applied unless it was waiting in the queue.
func (s *Service) Do(ctx context.Context, r Request) (Result, error) {
	results, err := s.submit(ctx, []Request{r})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

func (s *Service) submit(ctx context.Context, requests []Request) ([]Result, error) {
	if !s.claimKeys(requests) {
		return nil, ErrKeyInFlight
	}
	p := &pending{ctx: ctx, requests: requests, answer: make(chan answer, 1)}
	select {
	case <-s.stopping:
		s.releaseKeys(requests)
		return nil, ErrUnavailable
	default:
	}
	select {
	case s.queue <- p:
	default:
		s.releaseKeys(requests)
		return nil, ErrOverloaded
	}
	select {
	case a := <-p.answer:
		return a.results, a.err
	case <-s.stopping:
		// All that was taken up has its answer by now; the rest never will be taken up.
		select {
		case a := <-p.answer:
			return a.results, a.err
		default:
			return nil, ErrUnavailable
		}
	case <-ctx.Done():
		select {
		case a := <-p.answer:
			return a.results, a.err
		default:
			return nil, ctx.Err()
		}
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

// finish answers a unit and frees its keys, the keys first: whoever has the answer may use the key again at once.
func (s *Service) finish(p *pending, results []Result, err error) {
	s.releaseKeys(p.requests)
	p.answer <- answer{results: results, err: err}
}

// Run takes commands until ctx ends, then finishes those it has taken, refuses those still queued with
// ErrUnavailable, and returns nil. It must be called once.
func (s *Service) Run(ctx context.Context) error {
	batch := make([]*pending, 0, maxBatch)
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case p := <-s.queue:
			batch = s.fill(append(batch[:0], p))
			// The batch outlives the signal to stop: what was taken up is finished.
			s.process(context.WithoutCancel(ctx), batch)
			clear(batch)
		}
	}
}

// fill takes what has queued up meanwhile, without waiting for more.
func (s *Service) fill(batch []*pending) []*pending {
	for len(batch) < maxBatch {
		select {
		case p := <-s.queue:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

func (s *Service) stop() {
	close(s.stopping)
	for {
		select {
		case p := <-s.queue:
			s.finish(p, nil, ErrUnavailable)
		default:
			return
		}
	}
}
