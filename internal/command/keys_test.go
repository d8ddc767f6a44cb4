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
	ifVersion.IfVersions = []int64{2}
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
		reused.Key = &command.Key{Hash: first.Key.Hash, Fingerprint: [16]byte{1, 2, 3}, Refusal: first.Key.Refusal}
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
	plug := blockAppend(t, pool, s)
	first := async(t.Context(), s, r)
	waitFor(t, "the first holds the key", func() bool { return s.Queued() == 1 })
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

// TestRefusalIsStoredWithItsKey asserts that a retry gets the first answer even if the rules would now decide otherwise: from this
// instance, from another, and after a restart.
func TestRefusalIsStoredWithItsKey(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	s, stop := startStoppable(t, pool)
	defer stop()
	other := second(t, url)
	a, b, missing := open(t, s, "1"), open(t, s, "1"), uuid.New()
	late := keyed(deposit(a, "1"))
	late.IfVersions = []int64{1}
	refused := []command.Request{
		keyed(withdraw(a, "2")), keyed(transfer(a, missing, "1")), keyed(deposit(missing, "1")), late,
		keyed(request(a, account.Open{Owner: "Eve", Currency: eur})),
	}
	errs := make([]error, len(refused))
	for i, r := range refused {
		if _, errs[i] = s.Do(t.Context(), r); errs[i] == nil {
			t.Fatalf("%T was not refused", r.Command)
		}
		wantRefusedBefore(t, s, r, errs[i])
	}
	must(t, s, deposit(a, "10"))
	must(t, s, request(missing, account.Open{Owner: "Ada", Currency: eur}))
	stop()
	restarted := start(t, pool)
	for i, r := range refused {
		wantRefusedBefore(t, other, r, errs[i])
		wantRefusedBefore(t, restarted, r, errs[i])
		reused := keyed(deposit(b, "1"))
		reused.Key.Hash = r.Key.Hash
		if _, err := other.Do(t.Context(), reused); !errors.Is(err, command.ErrKeyReused) {
			t.Errorf("another request with the key of %T: %v", r.Command, err)
		}
	}
	if log := checkLog(t, pool); len(log.events) != 4+2 {
		t.Errorf("the log has %d events", len(log.events))
	}
}

// TestDelayedCopyOfRefusedCommand delays the first copy of a withdrawal at instance A while B refuses the retry and then takes a
// deposit. A's copy must not take the money afterwards.
func TestDelayedCopyOfRefusedCommand(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	gate := newGate(t, url)
	a, b := start(t, gate.pool), second(t, url)
	id := open(t, b, "1")
	r := keyed(withdraw(id, "5"))
	gate.close()
	delayed := async(t.Context(), a, r)
	gate.waits(t)
	_, refusal := b.Do(t.Context(), r)
	if refusal == nil {
		t.Fatal("the retry was not refused")
	}
	must(t, b, deposit(id, "10"))
	gate.open()
	got := <-delayed
	before, ok := errors.AsType[*command.RefusedBeforeError](got.err)
	if !ok || string(before.Answer) != string(r.Key.Refusal(refusal)) {
		t.Errorf("the delayed copy: %+v", got)
	}
	checkLog(t, newPool(t, url))
}

// TestSameKeyTwiceInOneCall asserts that the second occurrence replays the first, in the first call and in every retry.
func TestSameKeyTwiceInOneCall(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	paid, refused, reused := keyed(withdraw(a, "1")), keyed(withdraw(a, "100")), keyed(withdraw(a, "2"))
	reused.Key.Hash = paid.Key.Hash
	var first []command.Outcome
	for try := range 3 {
		got := s.DoEach(t.Context(), []command.Request{paid, refused, paid, refused, reused, deposit(a, "1")})
		if try == 0 {
			first = got
			if got[0].Err != nil || got[0].Result.Replayed || codeOf(got[1].Err) != account.CodeInsufficientFunds {
				t.Fatalf("the first occurrences: %+v", got[:2])
			}
		}
		for i, outcome := range got {
			switch again := try > 0 || i > 1; i {
			case 0, 2:
				if outcome.Err != nil || outcome.Result.Replayed != again {
					t.Errorf("try %d, command %d: %+v", try, i, outcome)
				}
				sameEvents(t, outcome.Result, first[0].Result)
			case 1, 3:
				before, ok := errors.AsType[*command.RefusedBeforeError](outcome.Err)
				if again && (!ok || string(before.Answer) != string(refused.Key.Refusal(first[1].Err))) {
					t.Errorf("try %d, command %d: %+v", try, i, outcome)
				}
			case 4:
				if !errors.Is(outcome.Err, command.ErrKeyReused) {
					t.Errorf("try %d, the same key for another request: %+v", try, outcome)
				}
			case 5:
				if outcome.Err != nil {
					t.Errorf("try %d, a neighbour: %v", try, outcome.Err)
				}
			}
		}
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != 10_00-1_00+3_00 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
}

// TestSameKeyTwiceInAtomicGroup asserts the same for the commands of an atomic group.
func TestSameKeyTwiceInAtomicGroup(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	paid, more, refused := keyed(withdraw(a, "1")), keyed(withdraw(a, "2")), keyed(withdraw(a, "100"))
	var first []command.Result
	for try := range 3 {
		got, err := s.DoAll(t.Context(), []command.Request{paid, paid, more})
		if err != nil {
			t.Fatal(err)
		}
		if try == 0 {
			first = got
		}
		for i, replayed := range []bool{try > 0, true, try > 0} {
			if got[i].Replayed != replayed {
				t.Errorf("try %d, command %d: %+v", try, i, got[i])
			}
			sameEvents(t, got[i], first[i])
		}
	}
	for i, mixed := range [][]command.Request{{paid, keyed(deposit(a, "1"))}, {keyed(deposit(a, "1")), more}} {
		_, err := s.DoAll(t.Context(), mixed)
		item, ok := errors.AsType[*command.ItemError](err)
		if !ok || item.Index != i || !errors.Is(err, command.ErrKeyReused) {
			t.Errorf("item %d has the key of another group: %v", i, err)
		}
	}
	deposited := keyed(deposit(a, "1"))
	var refusal error
	for try := range 2 {
		_, err := s.DoAll(t.Context(), []command.Request{deposited, refused})
		item, ok := errors.AsType[*command.ItemError](err)
		if !ok || item.Index != 1 {
			t.Fatalf("try %d: %v", try, err)
		}
		if try == 0 {
			refusal = item.Err
			continue
		}
		if before, ok := errors.AsType[*command.RefusedBeforeError](err); !ok || string(before.Answer) != string(refused.Key.Refusal(refusal)) {
			t.Errorf("try %d: %v", try, err)
		}
	}
	// Also if another request of the group would be refused by now.
	must(t, s, keyed(command.Request{AccountID: a, Command: account.Suspend{}}))
	_, err := s.DoAll(t.Context(), []command.Request{deposited, refused})
	if before, ok := errors.AsType[*command.RefusedBeforeError](err); !ok || string(before.Answer) != string(refused.Key.Refusal(refusal)) {
		t.Errorf("after the account was suspended: %v", err)
	}
	must(t, s, keyed(command.Request{AccountID: a, Command: account.Reactivate{}}))
	if got := must(t, s, deposited); got.Replayed { // it was never decided
		t.Errorf("%+v", got)
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != 10_00-3_00+1_00 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
}

// TestSameKeyAtTwoInstancesAtOnce asserts that of two concurrent requests with one key at two instances, one is applied and the
// other replays its answer.
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

// TestKeyWithoutItsEvents has a key whose events are not in the log: only the request with that key fails.
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

// TestManyDuplicatesInOneBatch asserts that a batch with many duplicates on one account is answered: the first append finds all
// of them.
func TestManyDuplicatesInOneBatch(t *testing.T) {
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
	for i, got := range batched(t, pool, s, nil, batch...) {
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
