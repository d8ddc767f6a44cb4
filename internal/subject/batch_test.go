package subject_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/eventstore"
	"passbook/internal/money"
	"passbook/internal/subject"
)

// writer is the write side of an instance with keys, and a pool, of its own.
func (b *testbed) writer(t testing.TB, keys *subject.Keys) *command.Service {
	t.Helper()
	return start(t, eventstore.New(open(t, b.log.Config().ConnString())).Coded(subject.NewCodec(keys).PerEvent()))
}

// start runs a write side until the test ends.
func start(t testing.TB, log *eventstore.Store) *command.Service {
	t.Helper()
	s, err := command.New(command.Config{Store: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func one(t testing.TB) money.Decimal {
	t.Helper()
	d, err := money.ParseDecimal("1")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deposit(t testing.TB, id uuid.UUID, reference string) command.Request {
	t.Helper()
	return command.Request{AccountID: id, Command: account.Deposit{Amount: one(t), Reference: reference}}
}

var keyed atomic.Uint64

// withKey gives a request a new idempotency key.
func withKey(r command.Request) command.Request {
	r.Key = &command.Key{Refusal: func(error) []byte { return []byte("refused") }}
	binary.BigEndian.PutUint64(r.Key.Hash[:], keyed.Add(1))
	return r
}

func must(t testing.TB, s *command.Service, r command.Request) command.Result {
	t.Helper()
	result, err := s.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%T: %v", r.Command, err)
	}
	return result
}

// person is an account with text, and what commands name of it.
type person struct {
	id, hold uuid.UUID
	deposit  command.Request // with a key
	position int64           // of the deposit
}

func newPerson(t testing.TB, s *command.Service) person {
	t.Helper()
	eur, _ := money.LookupCurrency("EUR")
	p := person{id: uuid.New(), hold: uuid.New()}
	must(t, s, command.Request{AccountID: p.id, Command: account.Open{Owner: "Zoë", Currency: eur}})
	p.deposit = withKey(deposit(t, p.id, "salary"))
	p.position = must(t, s, p.deposit).Events[0].Position
	for range 3 {
		must(t, s, deposit(t, p.id, "more"))
	}
	must(t, s, command.Request{AccountID: p.id, Command: account.PlaceHold{HoldID: p.hold, Amount: one(t), Reference: "room"}})
	return p
}

// requests are commands that concern one account, in every way in which a command may.
func (p *person) requests(t testing.TB) []command.Request {
	t.Helper()
	return []command.Request{
		deposit(t, p.id, "more"), deposit(t, p.id, ""), withKey(deposit(t, p.id, "more")), p.deposit,
		{Command: account.Reverse{Position: p.position}},
		{AccountID: p.id, Command: account.ReleaseHold{HoldID: p.hold, Reason: "sorry"}},
		{AccountID: p.id, Command: account.Suspend{Reason: "sorry"}, DryRun: true},
	}
}

// wantOutcomes asserts that the commands on one account fail because its key is missing, and that all others are applied.
func wantOutcomes(t *testing.T, s *command.Service, lost uuid.UUID, requests []command.Request, concern func(i int) bool) {
	t.Helper()
	for i, o := range s.DoEach(t.Context(), requests) {
		missing, ok := errors.AsType[*subject.MissingKeyError](o.Err)
		switch {
		case concern(i) && (!ok || missing.SubjectID != lost):
			t.Errorf("%T on the account without a key: %v", requests[i].Command, o.Err)
		case !concern(i) && o.Err != nil:
			t.Errorf("%T on another account: %v", requests[i].Command, o.Err)
		}
	}
}

// TestMissingKeyFailsOneAccount loses the key of one account. Commands that concern it fail; those in the same batch that do not are
// applied, also if they look at events of the log as the others do.
func TestMissingKeyFailsOneAccount(t *testing.T) {
	t.Parallel()
	b := newTestbed(t)
	first, pool := b.instance(t)
	before := b.writer(t, first)
	lost, kept := newPerson(t, before), newPerson(t, before)
	following, _ := b.instance(t)
	follower := b.writer(t, following)
	must(t, follower, deposit(t, kept.id, "")) // it has a head, and the account
	if _, err := pool.Exec(t.Context(), "delete from subject_keys where subject_id = $1", lost.id); err != nil {
		t.Fatal(err)
	}
	must(t, before, deposit(t, lost.id, "with the key in memory"))
	wantOutcomes(t, follower, lost.id, []command.Request{deposit(t, kept.id, "more"), deposit(t, lost.id, "")}, func(i int) bool { return i == 1 })

	second, _ := b.instance(t)
	requests := append(lost.requests(t), kept.requests(t)...)
	n := len(requests)
	transfer := account.Transfer{To: lost.id, Amount: one(t)}
	requests = append(requests, command.Request{AccountID: kept.id, Command: transfer}, deposit(t, kept.id, "at last"))
	wantOutcomes(t, b.writer(t, second), lost.id, requests, func(i int) bool { return i < n/2 || i == n })
}
