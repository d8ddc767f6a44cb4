package command_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// TestContention attacks I1, I2, I3 and I8 with three instances, 24 clients and three accounts. Every request is sent twice with
// its key, to any two instances, one after the other or at the same time. Holds are placed, captured, released and expire, and
// movements are reversed.
func TestContention(t *testing.T) {
	t.Parallel()
	const instances, clients, each = 3, 24, 40
	url := pgtest.URL(t)
	pool := newPool(t, url)
	services := []*command.Service{start(t, pool)}
	for len(services) < instances {
		services = append(services, second(t, url))
	}
	var accounts []uuid.UUID
	for range 3 {
		accounts = append(accounts, open(t, services[0], "20"))
	}
	before := checkLog(t, pool)
	book := &book{accounts: accounts}
	group, ctx := errgroup.WithContext(t.Context())
	var working atomic.Int64
	working.Store(clients)
	for client := range clients {
		random := rand.New(rand.NewPCG(uint64(client), 1))
		group.Go(func() error {
			defer working.Add(-1)
			for range each {
				r := book.randomCommand(random)
				one, two := services[random.IntN(instances)], services[random.IntN(instances)]
				if err := book.sendTwice(ctx, one, two, r, random.IntN(2) == 0); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error { // expires due holds, as two independent instances do
		for working.Load() > 0 {
			for _, h := range book.due() {
				r := keyed(request(h.account, account.ExpireHold{HoldID: h.id}))
				if err := book.sendTwice(ctx, services[0], services[1], r, true); err != nil {
					return err
				}
			}
			runtime.Gosched()
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	book.check(t, pool, len(before.events))
	book.wantAll(t)
	if book.refused == 0 || len(book.results) == 0 {
		t.Errorf("%d done and %d refused: the test did not exercise the rules", len(book.results), book.refused)
	}
}

// book collects the answers that the clients got.
type book struct {
	accounts []uuid.UUID

	mu      sync.Mutex
	results []command.Result // one for each key
	refused int
	holds   []heldAt
	moves   []int64 // positions of movements
}

// heldAt is a hold, and when it expires; the zero time means never.
type heldAt struct {
	account, id uuid.UUID
	at          time.Time
}

// randomCommand moves or holds an amount, of which about every other is available, or ends an earlier hold or reverses an earlier
// movement, whatever has happened to it since.
func (b *book) randomCommand(random *rand.Rand) command.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := random.IntN(len(b.accounts))
	id, other := b.accounts[i], b.accounts[(i+1+random.IntN(len(b.accounts)-1))%len(b.accounts)]
	amount := fmt.Sprint(1 + random.IntN(15))
	n := random.IntN(10)
	if n > 5 && len(b.holds) == 0 || n > 7 && len(b.moves) == 0 {
		n = 0
	}
	switch n {
	case 0, 1:
		return keyed(deposit(id, amount))
	case 2:
		return keyed(withdraw(id, amount))
	case 3:
		return keyed(transfer(id, other, amount))
	case 4, 5:
		c := account.PlaceHold{Amount: dec(amount)}
		if random.IntN(2) == 0 {
			c.ExpiresAt = time.Now().Add(time.Duration(random.IntN(1000)) * time.Millisecond).Truncate(time.Microsecond)
		}
		return keyed(request(id, c))
	case 6:
		h := b.holds[max(0, len(b.holds)-1-random.IntN(8))]
		c := account.CaptureHold{HoldID: h.id}
		if other != h.account && random.IntN(2) == 0 {
			c.To = other
		}
		return keyed(request(h.account, c))
	case 7:
		h := b.holds[random.IntN(len(b.holds))]
		return keyed(request(h.account, account.ReleaseHold{HoldID: h.id}))
	default:
		return keyed(reverse(b.moves[max(0, len(b.moves)-1-random.IntN(8))], fmt.Sprint(1+random.IntN(8))))
	}
}

// add adds a result.
func (b *book) add(result command.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results = append(b.results, result)
	for _, e := range result.Events {
		switch d := e.Event.(type) {
		case account.HoldPlaced:
			b.holds = append(b.holds, heldAt{e.AccountID, d.HoldID, d.ExpiresAt})
		case account.MoneyDeposited, account.MoneyWithdrawn, account.TransferSent, account.TransferReceived:
			b.moves = append(b.moves, e.Position)
		}
	}
}

// due returns the holds that have expired, each once.
func (b *book) due() (due []heldAt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.holds {
		if h := &b.holds[i]; !h.at.IsZero() && !h.at.After(time.Now()) {
			due = append(due, *h)
			h.at = time.Time{}
		}
	}
	return due
}

// wantAll asserts that every type of event occurred.
func (b *book) wantAll(t *testing.T) {
	t.Helper()
	seen := make(map[string]int)
	for _, result := range b.results {
		for _, e := range result.Events {
			seen[e.Event.EventType()]++
		}
	}
	t.Logf("%d refused; %v", b.refused, seen)
	for _, name := range []string{
		account.TypeMoneyDeposited, account.TypeMoneyWithdrawn, account.TypeTransferSent, account.TypeHoldPlaced, account.TypeHoldCaptured,
		account.TypeHoldReleased, account.TypeHoldExpired, account.TypeCreditReversed, account.TypeDebitReversed,
	} {
		if seen[name] == 0 {
			t.Errorf("no %s", name)
		}
	}
}

// sendTwice sends a request to each of two services and compares their answers: the second must replay the first, a result or a
// refusal. It fails on anything else.
func (b *book) sendTwice(ctx context.Context, one, two *command.Service, r command.Request, atOnce bool) error {
	var first, again answered
	if atOnce {
		c := make(chan answered, 1)
		go func() { c <- retryInFlight(ctx, one, r) }()
		again = retryInFlight(ctx, two, r)
		first = <-c
	} else {
		first = retryInFlight(ctx, one, r)
		again = retryInFlight(ctx, two, r)
	}
	if first.replayed() && !atOnce || first.replayed() == again.replayed() {
		return fmt.Errorf("one of two answers must be a replay: %+v, %+v", first, again)
	}
	if first.text(r) != again.text(r) {
		return fmt.Errorf("the answers differ: %+v, %+v", first, again)
	}
	if first.err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.refused++
		return nil
	}
	b.add(first.result)
	return nil
}

// replayed reports whether it replays the answer to an earlier request.
func (a *answered) replayed() bool {
	_, refused := errors.AsType[*command.RefusedBeforeError](a.err)
	return refused || a.result.Replayed
}

// text returns the answer as its caller sees it.
func (a *answered) text(r command.Request) string {
	if before, ok := errors.AsType[*command.RefusedBeforeError](a.err); ok {
		return string(before.Answer)
	}
	if a.err != nil {
		return string(r.Key.Refusal(a.err))
	}
	return fmt.Sprint(a.result.Events)
}

// retryInFlight sends a request, and again while its key is in flight.
func retryInFlight(ctx context.Context, s *command.Service, r command.Request) answered {
	for {
		result, err := s.Do(ctx, r)
		if !errors.Is(err, command.ErrKeyInFlight) {
			return answered{result, err}
		}
		runtime.Gosched()
	}
}

// check asserts that the log holds each acknowledged event once, and nothing else except the first events.
func (b *book) check(t *testing.T, pool *pgxpool.Pool, first int) {
	t.Helper()
	log := checkLog(t, pool)
	acknowledged := make(map[int64]bool)
	for _, result := range b.results {
		log.inLog(t, result)
		for _, e := range result.Events {
			if acknowledged[e.Position] {
				t.Errorf("position %d was acknowledged for two requests", e.Position)
			}
			acknowledged[e.Position] = true
		}
	}
	if len(log.events) != first+len(acknowledged) {
		t.Errorf("%d events were acknowledged; the log has %d, of which %d are from before", len(acknowledged), len(log.events), first)
	}
}

// TestConnectionsAreCut attacks I2: connections are cut at random under load, and clients retry with the same key until they get
// an answer. The log has each acknowledged event once, and nothing else.
func TestConnectionsAreCut(t *testing.T) {
	t.Parallel()
	const instances, clients, each = 2, 8, 40
	url := pgtest.URL(t)
	var services []*command.Service
	for range instances {
		services = append(services, second(t, url))
	}
	killer, err := postgres.NewPool(t.Context(), url, postgres.WithApplicationName("killer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(killer.Close)
	var accounts []uuid.UUID
	for range 4 {
		accounts = append(accounts, open(t, services[0], "50"))
	}
	book := &book{accounts: accounts}
	ctx := t.Context()
	working, done := context.WithCancel(ctx)
	defer done()
	var group, killing errgroup.Group
	kills, progress := 0, newCounter()
	var failures atomic.Int64
	killing.Go(func() (err error) {
		kills, err = killConnections(ctx, working, killer, progress)
		return err
	})
	for client := range clients {
		random := rand.New(rand.NewPCG(uint64(client), 2))
		group.Go(func() error {
			for range each {
				r := book.randomCommand(random)
				got := retryUntilAnswered(ctx, services, random, r, func() { failures.Add(1); progress.add() })
				progress.add()
				var refusal *account.Refusal
				switch {
				case got.err == nil:
					book.add(got.result)
				case !got.replayed() && !errors.As(got.err, &refusal):
					return got.err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	done()
	if err := killing.Wait(); err != nil {
		t.Error(err)
	}
	if failures.Load() == 0 {
		t.Errorf("%d connections were cut and no command noticed", kills)
	}
	t.Logf("%d connections cut, %d failed tries, %d commands done", kills, failures.Load(), len(book.results))
	book.check(t, killer, 2*len(accounts))
}

// killConnections cuts connections until working ends, always one that is in use, so that appends are cut off before, during and
// after their commit.
func killConnections(ctx, working context.Context, pool *pgxpool.Pool, progress *counter) (kills int, err error) {
	for working.Err() == nil {
		var n int
		err := pool.QueryRow(ctx, `select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = 'passbook' and state = 'active' limit 1) as t`).Scan(&n)
		if err != nil {
			return kills, err
		}
		kills += n
		progress.wait(working, progress.count()+2) // let the clients make progress
	}
	return kills, nil
}

// retryUntilAnswered sends a request to any of the services until one answers.
func retryUntilAnswered(ctx context.Context, services []*command.Service, random *rand.Rand, r command.Request, failed func()) answered {
	for {
		got := retryInFlight(ctx, services[random.IntN(len(services))], r)
		if got.err == nil || !postgres.IsUnavailable(got.err) {
			return got
		}
		failed()
	}
}

// counter counts, and wakes those waiting for a count.
type counter struct {
	mu   sync.Mutex
	n    int
	more chan struct{}
}

func newCounter() *counter { return &counter{more: make(chan struct{})} }

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	close(c.more)
	c.more = make(chan struct{})
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// wait waits until the count is n, or ctx ends.
func (c *counter) wait(ctx context.Context, n int) {
	for ctx.Err() == nil {
		c.mu.Lock()
		enough, more := c.n >= n, c.more
		c.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}
