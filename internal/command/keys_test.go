package command_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
)

func TestSameKeySameAnswer(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	s, stop := startStoppable(t, pool)
	defer stop()
	other := second(t, url)
	a, b, c := open(t, s, "10"), open(t, s, "0"), uuid.New()
	requests := []command.Request{
		keyed(request(c, account.Open{Owner: "Grace", Currency: eur})),
		keyed(request(a, account.Withdraw{Amount: dec("4"), Reference: "\"ü\"\n"})),
		keyed(transfer(a, b, "6")),
		keyed(request(b, account.Suspend{Reason: "why"})),
		keyed(request(a, account.Close{})), // from now on every one of them would be refused
	}
	ifVersion := requests[1]
	ifVersion.IfVersion = new(int64(2))
	requests[1] = ifVersion
	results := make([]command.Result, len(requests))
	for i, r := range requests {
		results[i] = must(t, s, r)
		wantReplay(t, s, r, results[i])
	}
	for i, r := range requests {
		wantReplay(t, s, r, results[i])
		wantReplay(t, other, r, results[i])
	}
	stop()
	restarted := start(t, pool)
	for i, r := range requests {
		wantReplay(t, restarted, r, results[i])
	}
	if log := checkLog(t, pool); len(log.events) != 3+6 {
		t.Errorf("the log has %d events", len(log.events))
	}
}

func TestSameKeyOtherRequest(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	first := keyed(withdraw(a, "1"))
	result := must(t, s, first)
	for name, c := range map[string]account.Command{
		"would be accepted": account.Deposit{Amount: dec("1")},
		"would be refused":  account.Withdraw{Amount: dec("100")},
	} {
		reused := request(a, c)
		reused.Key = &command.Key{Hash: first.Key.Hash, Fingerprint: [16]byte{1, 2, 3}}
		for range 2 {
			if _, err := s.Do(t.Context(), reused); !errors.Is(err, command.ErrKeyReused) {
				t.Errorf("%s: %v, want ErrKeyReused", name, err)
			}
		}
	}
	wantReplay(t, s, first, result)
	if log := checkLog(t, pool); len(log.events) != 3 {
		t.Errorf("the log has %d events", len(log.events))
	}
}

func TestKeyInFlight(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	r := keyed(withdraw(a, "1"))
	release := holdLock(t, pool)
	plug := plugIn(t, pool, s)
	first := async(t.Context(), s, r)
	waitFor(t, "the first holds the key", func() bool { return s.Waiting() == 1 })
	if _, err := s.Do(t.Context(), r); !errors.Is(err, command.ErrKeyInFlight) {
		t.Errorf("while the first is in flight: %v, want ErrKeyInFlight", err)
	}
	release()
	<-plug
	got := <-first
	if got.err != nil {
		t.Fatal(got.err)
	}
	wantReplay(t, s, r, got.result)
	checkLog(t, pool)
}

// TestRefusalTakesNoKey asserts that a command once refused is decided anew under the same key.
func TestRefusalTakesNoKey(t *testing.T) {
	t.Parallel()
	s := start(t, pgtest.New(t))
	a := open(t, s, "1")
	r := keyed(withdraw(a, "2"))
	wantRefusal(t, s, r, account.CodeInsufficientFunds)
	must(t, s, deposit(a, "1"))
	first := must(t, s, r)
	wantReplay(t, s, r, first)
}

// TestSameKeyAtTwoInstancesAtOnce asserts that of requests with one key at two instances one is carried out and the
// other answered with it.
func TestSameKeyAtTwoInstancesAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	s, other := start(t, pool), second(t, url)
	a := open(t, s, "1000")
	b := open(t, other, "0")
	for range 50 {
		for _, r := range []command.Request{keyed(withdraw(a, "1")), keyed(transfer(a, b, "1"))} {
			here, there := async(t.Context(), s, r), async(t.Context(), other, r)
			x, y := <-here, <-there
			if x.err != nil || y.err != nil {
				t.Fatalf("here: %v, there: %v", x.err, y.err)
			}
			if x.result.Replayed == y.result.Replayed {
				t.Errorf("here: %+v, there: %+v", x.result, y.result)
			}
			sameEvents(t, x.result, y.result)
		}
	}
	log := checkLog(t, pool)
	if got := log.accounts[a].Balance; got != 900_00 {
		t.Errorf("the balance is %d", got)
	}
}

// TestKeyWithoutItsEvents sees a key whose events the log does not hold: an error for the one request, and no more.
func TestKeyWithoutItsEvents(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	r := keyed(withdraw(a, "1"))
	must(t, s, r)
	if _, err := pool.Exec(t.Context(), "delete from events where position = (select max(position) from events)"); err != nil {
		t.Fatal(err)
	}
	if result, err := s.Do(t.Context(), r); err == nil {
		t.Errorf("answered %+v for events that are not there", result)
	}
	must(t, s, deposit(a, "1"))
	checkLog(t, pool)
}

// TestDuplicateNeighbours asserts that a batch may hold many duplicates of a hot account and still settles: each is
// found by the first append, whatever version it was decided at.
func TestDuplicateNeighbours(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	s, other := start(t, pool), second(t, url)
	a := open(t, s, "100")
	var batch []command.Request
	var firsts []command.Result
	for range 40 {
		r := keyed(withdraw(a, "1"))
		firsts = append(firsts, must(t, other, r))
		batch = append(batch, r, keyed(deposit(a, "0.01")))
	}
	for i, got := range held(t, pool, s, nil, batch...) {
		if got.err != nil || got.result.Replayed != (i%2 == 0) {
			t.Fatalf("request %d: %+v", i, got)
		}
		if i%2 == 0 {
			sameEvents(t, got.result, firsts[i/2])
		}
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != 60_40 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
	if n, err := eventstore.New(pool).Head(t.Context()); err != nil || n != 2+40+40+1 {
		t.Errorf("head %d, %v", n, err)
	}
}
