package command_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var eur = currency("EUR")

func currency(code string) money.Currency {
	c, err := money.ParseCurrency(code)
	if err != nil {
		panic(err)
	}
	return c
}

func dec(text string) money.Decimal {
	d, err := money.ParseDecimal(text)
	if err != nil {
		panic(err)
	}
	return d
}

// cents returns n minor units of EUR as a decimal.
func cents(n int64) money.Decimal { return dec(money.FormatMinor(n, eur)) }

// start runs a service on the pool until the test ends.
func start(t testing.TB, pool *pgxpool.Pool, change ...func(*command.Config)) *command.Service {
	t.Helper()
	s, stop := startStoppable(t, pool, change...)
	t.Cleanup(stop)
	return s
}

// startStoppable is start, and also returns a stop function, which waits for Run and may be called more than once.
func startStoppable(t testing.TB, pool *pgxpool.Pool, change ...func(*command.Config)) (*command.Service, func()) {
	t.Helper()
	config := command.Config{Store: eventstore.New(pool)}
	for _, f := range change {
		f(&config)
	}
	s, err := command.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	return s, func() {
		cancel()
		<-done
	}
}

func cacheSize(n int) func(*command.Config) { return func(c *command.Config) { c.CacheSize = n } }

// second starts another instance: a service with a pool of its own on the same database.
func second(t testing.TB, url string, change ...func(*command.Config)) *command.Service {
	t.Helper()
	return start(t, newPool(t, url), change...)
}

func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.NewPool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func request(id uuid.UUID, c account.Command) command.Request {
	return command.Request{AccountID: id, Command: c}
}

func deposit(id uuid.UUID, amount string) command.Request {
	return request(id, account.Deposit{Amount: dec(amount)})
}

func withdraw(id uuid.UUID, amount string) command.Request {
	return request(id, account.Withdraw{Amount: dec(amount)})
}

func transfer(from, to uuid.UUID, amount string) command.Request {
	return request(from, account.Transfer{TransferID: uuid.New(), To: to, Amount: dec(amount)})
}

var keyCount atomic.Uint64

// keyed gives the request a new key.
func keyed(r command.Request) command.Request {
	k := new(command.Key)
	binary.BigEndian.PutUint64(k.Hash[:], keyCount.Add(1))
	copy(k.Fingerprint[:], k.Hash[:])
	k.Fingerprint[15] = 1
	k.Refusal = func(err error) []byte { return fmt.Appendf(nil, "%d: %v", k.Hash, err) }
	r.Key = k
	return r
}

func must(t testing.TB, s *command.Service, r command.Request) command.Result {
	t.Helper()
	result, err := s.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%T on %s: %v", r.Command, r.AccountID, err)
	}
	return result
}

// open opens an account in EUR with a balance.
func open(t testing.TB, s *command.Service, balance string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	must(t, s, request(id, account.Open{Owner: "Ada", Currency: eur}))
	if !dec(balance).IsZero() {
		must(t, s, deposit(id, balance))
	}
	return id
}

// wantRefusal asserts that the command is refused with a code.
func wantRefusal(t testing.TB, s *command.Service, r command.Request, code string) {
	t.Helper()
	_, err := s.Do(t.Context(), r)
	var refusal *account.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("%T on %s: %v, want a refusal %s", r.Command, r.AccountID, err, code)
	}
}

// wantRefusedBefore asserts that the answer replays the refusal first.
func wantRefusedBefore(t testing.TB, s *command.Service, r command.Request, first error) {
	t.Helper()
	_, err := s.Do(t.Context(), r)
	before, ok := errors.AsType[*command.RefusedBeforeError](err)
	if want := r.Key.Refusal(first); !ok || string(before.Answer) != string(want) {
		t.Errorf("%T on %s: %v, want the first refusal again: %s", r.Command, r.AccountID, err, want)
	}
}

func wantReplay(t testing.TB, s *command.Service, r command.Request, first command.Result) {
	t.Helper()
	again := must(t, s, r)
	if !again.Replayed {
		t.Errorf("%T: the second answer is not marked as replayed", r.Command)
	}
	sameEvents(t, again, first)
}

func sameEvents(t testing.TB, got, want command.Result) {
	t.Helper()
	if !reflect.DeepEqual(got.Events, want.Events) {
		t.Errorf("the second answer is %+v, the first was %+v", got.Events, want.Events)
	}
}

// patience limits how long a test waits, so that a failure does not hang.
const patience = time.Minute

// until waits for a condition on the database.
func until(t testing.TB, pool *pgxpool.Pool, condition string, args ...any) {
	t.Helper()
	waitFor(t, condition, func() (ok bool) {
		if err := pool.QueryRow(t.Context(), condition, args...).Scan(&ok); err != nil {
			t.Fatalf("%s: %v", condition, err)
		}
		return ok
	})
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// answered is what Do returned.
type answered struct {
	result command.Result
	err    error
}

// async sends a command and returns a channel for its answer.
func async(ctx context.Context, s *command.Service, r command.Request) <-chan answered {
	c := make(chan answered, 1)
	go func() {
		result, err := s.Do(ctx, r)
		c <- answered{result, err}
	}()
	return c
}

// batched makes one batch of the requests, in order: it holds the append lock while they queue up behind an unrelated command,
// runs then if it is not nil, and releases the lock.
func batched(t testing.TB, pool *pgxpool.Pool, s *command.Service, then func(), requests ...command.Request) []answered {
	t.Helper()
	all := make([]queued, len(requests))
	for i, r := range requests {
		all[i] = queued{t.Context(), r}
	}
	return batchedFor(t, pool, s, then, all...)
}

// queued is a request and its caller's context.
type queued struct {
	ctx     context.Context
	request command.Request
}

// batchedFor is batched for callers with contexts of their own.
func batchedFor(t testing.TB, pool *pgxpool.Pool, s *command.Service, then func(), requests ...queued) []answered {
	t.Helper()
	release := holdLock(t, pool)
	blocked := blockAppend(t, pool, s)
	answers := make([]<-chan answered, len(requests))
	for i, q := range requests {
		answers[i] = async(q.ctx, s, q.request)
		// Keep the order: send the next one when this one is queued.
		waitFor(t, "queued", func() bool { return s.Queued() > i })
	}
	if then != nil {
		then()
	}
	release()
	if a := <-blocked; a.err != nil {
		t.Fatal(a.err)
	}
	all := make([]answered, len(requests))
	for i := range answers {
		all[i] = <-answers[i]
	}
	return all
}

// holdLock takes the append lock and returns a function that releases it.
func holdLock(t testing.TB, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	return pgtest.HoldAppendLock(t, pool)
}

// blockAppend opens an account of its own and returns once that append waits for the lock.
func blockAppend(t testing.TB, pool *pgxpool.Pool, s *command.Service) <-chan answered {
	t.Helper()
	blocked := async(context.Background(), s, request(uuid.New(), account.Open{Owner: "Blocked", Currency: eur}))
	until(t, pool, pgtest.AppendWaits)
	return blocked
}
