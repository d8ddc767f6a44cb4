package command_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestFailedCommandsDoNotAffectOthers(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a, b := open(t, s, "10"), open(t, s, "0")
	first := keyed(deposit(a, "1"))
	must(t, s, first)
	reused := keyed(deposit(a, "2"))
	reused.Key.Hash = first.Key.Hash
	late := deposit(a, "1")
	late.IfVersions = []int64{1}
	got := batched(t, pool, s, nil,
		deposit(a, "1"), withdraw(b, "1"), deposit(uuid.New(), "1"), transfer(a, b, "2"), reused,
		request(a, nil), transfer(a, b, "100"), late, withdraw(b, "2"), deposit(a, "0.01"),
	)
	for i, ok := range []bool{true, false, false, true, false, false, false, false, true, true} {
		if (got[i].err == nil) != ok {
			t.Errorf("command %d: %+v", i, got[i])
		}
	}
	if log := checkLog(t, pool); len(log.events) != 3+1+1+1+2+1+1 || log.accounts[a].Balance != 10_01 || log.accounts[b].Balance != 0 {
		t.Errorf("%d events, %+v, %+v", len(log.events), log.accounts[a], log.accounts[b])
	}
}

// TestBatchesOnOneAccount makes every command of a batch depend on the one before it.
func TestBatchesOnOneAccount(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	id := uuid.New()
	requests := []command.Request{request(id, account.Open{Owner: "Ada", Currency: eur})}
	for range 100 {
		requests = append(requests, deposit(id, "1"), withdraw(id, "1"))
	}
	requests = append(requests, request(id, account.Close{}))
	var position int64
	for i, got := range batched(t, pool, s, nil, requests...) {
		if got.err != nil {
			t.Fatalf("command %d: %v", i, got.err)
		}
		r := got.result.Events[0]
		if r.Version != int64(i)+1 || i > 0 && r.Position != position+1 {
			t.Errorf("command %d: %+v", i, r)
		}
		position = r.Position
	}
	checkLog(t, pool)
}

func TestAbandonedCommandsAreDropped(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	ctx, hangUp := context.WithCancel(t.Context())
	gone := keyed(withdraw(a, "1"))
	got := batchedFor(t, pool, s, hangUp,
		queued{ctx, gone}, queued{t.Context(), deposit(a, "1")}, queued{ctx, deposit(a, "2")})
	if !errors.Is(got[0].err, context.Canceled) || got[1].err != nil || !errors.Is(got[2].err, context.Canceled) {
		t.Errorf("answers: %+v", got)
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != 11_00 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
	if again := must(t, s, gone); again.Replayed { // its key was released
		t.Errorf("replayed a command that was dropped: %+v", again)
	}
}

func TestQueueFull(t *testing.T) {
	t.Parallel()
	const size, extra = 5, 3
	pool := pgtest.New(t)
	s := start(t, pool, func(c *command.Config) { c.QueueSize = size })
	a := open(t, s, "0")
	release := holdLock(t, pool)
	plug := blockAppend(t, pool, s)
	answers := make(chan answered, size+extra)
	requests := make(map[uuid.UUID]command.Request)
	for range size + extra {
		r := keyed(deposit(a, "1"))
		requests[uuid.UUID(r.Key.Hash)] = r
		go func() {
			result, err := s.Do(t.Context(), r)
			if errors.Is(err, command.ErrOverloaded) {
				err = fmt.Errorf("%x: %w", r.Key.Hash, err)
				_, again := s.Do(t.Context(), r) // its key was released
				if !errors.Is(again, command.ErrOverloaded) {
					err = fmt.Errorf("sent again: %w", again)
				}
			}
			answers <- answered{result, err}
		}()
	}
	for range extra { // these do not wait for the lock
		if got := <-answers; !errors.Is(got.err, command.ErrOverloaded) {
			t.Errorf("got %+v, want ErrOverloaded", got)
		}
	}
	release()
	if got := <-plug; got.err != nil {
		t.Error(got.err)
	}
	for range size {
		if got := <-answers; got.err != nil {
			t.Error(got.err)
		}
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != size*100 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
}

// TestStopUnderLoad repeatedly stops a service under load: acknowledged commands are in the log, and those that failed with
// ErrUnavailable are not.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	acknowledged, refused := 0, 0
	var results []command.Result
	for round := range 10 {
		s, stop := startStoppable(t, pool)
		a := open(t, s, "0")
		acknowledged++
		release := holdLock(t, pool)
		plug := blockAppend(t, pool, s)
		var answers []<-chan answered
		for range 50 {
			answers = append(answers, async(t.Context(), s, deposit(a, "1")))
		}
		if round%2 == 0 { // in odd rounds, some are not queued yet
			waitFor(t, "queued", func() bool { return s.Queued() == len(answers) })
		}
		var group errgroup.Group
		group.Go(func() error { stop(); return nil })
		release()
		_ = group.Wait()
		for _, c := range append(answers, plug) {
			switch got := <-c; {
			case got.err == nil:
				acknowledged++
				results = append(results, got.result)
			case errors.Is(got.err, command.ErrUnavailable):
				refused++
			default:
				t.Error(got.err)
			}
		}
		if _, err := s.Do(t.Context(), deposit(a, "1")); !errors.Is(err, command.ErrUnavailable) {
			t.Errorf("after the stop: %v, want ErrUnavailable", err)
		}
	}
	log := checkLog(t, pool)
	for _, r := range results {
		log.inLog(t, r)
	}
	if len(log.events) != acknowledged {
		t.Errorf("%d acknowledged and %d refused, the log has %d events", acknowledged, refused, len(log.events))
	}
}

// TestFailedAppend has the server cancel the append of a batch: its commands fail, and the next batch leaves no gap in the
// positions.
func TestFailedAppend(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	release := holdLock(t, pool)
	plug := blockAppend(t, pool, s)
	after := async(t.Context(), s, withdraw(a, "10"))
	cancelAppend(t, pool)
	if got := <-plug; got.err == nil || !postgres.IsUnavailable(got.err) {
		t.Errorf("got %+v, want an error that counts as unavailable", got)
	}
	release()
	if got := <-after; got.err != nil || got.result.Events[0].Position != 3 {
		t.Errorf("the next command: %+v", got)
	}
	checkLog(t, pool)
}

// cancelAppend has the server cancel the append that waits for the lock.
func cancelAppend(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `select pg_cancel_backend(pid) from pg_locks where locktype = 'advisory'
and not granted and database = (select oid from pg_database where datname = current_database())`); err != nil {
		t.Fatal(err)
	}
}

// TestTinyCache uses many more accounts than the cache holds.
func TestTinyCache(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			s, other := start(t, pool, cacheSize(size)), second(t, url, cacheSize(size))
			ids := make([]uuid.UUID, 20)
			for i := range ids {
				ids[i] = open(t, s, "10")
			}
			for round := range 4 {
				must(t, other, deposit(ids[round], "1"))
				var batch []command.Request
				for i := range ids {
					next := ids[(i+1)%len(ids)]
					batch = append(batch, transfer(ids[i], next, "10"), keyed(withdraw(ids[i], "1000")), keyed(deposit(next, "0.5")))
				}
				for i, got := range batched(t, pool, s, nil, batch...) {
					var refusal *account.Refusal
					if i%3 == 1 != errors.As(got.err, &refusal) || i%3 != 1 && got.err != nil {
						t.Errorf("round %d, command %d: %+v", round, i, got)
					}
				}
			}
			log := checkLog(t, pool)
			for i, id := range ids {
				want := int64(12_00)
				if i < 4 {
					want += 1_00
				}
				if log.accounts[id].Balance != want {
					t.Errorf("account %d has %d, want %d", i, log.accounts[id].Balance, want)
				}
			}
		})
	}
}
