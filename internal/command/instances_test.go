package command_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// TestRefusalsAreDecidedOnTheLog has instance B change accounts that A has cached, so that whatever A would refuse on its cache
// succeeds, and the other way round.
func TestRefusalsAreDecidedOnTheLog(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)

	x, y := open(t, a, "10"), open(t, a, "0")
	must(t, b, deposit(x, "90"))
	if got := must(t, a, withdraw(x, "100")); got.Events[0].Version != 4 {
		t.Errorf("a withdrawal of what B deposited: %+v", got)
	}
	must(t, b, deposit(x, "5"))
	must(t, a, transfer(x, y, "5"))
	must(t, b, request(x, account.Close{}))
	wantRefusal(t, a, deposit(x, "1"), account.CodeAccountClosed)
	wantRefusal(t, a, transfer(y, x, "1"), account.CodeAccountClosed)

	must(t, b, request(y, account.Suspend{}))
	wantRefusal(t, a, withdraw(y, "1"), account.CodeAccountSuspended)
	must(t, b, request(y, account.Reactivate{}))
	must(t, a, withdraw(y, "1"))
	must(t, b, withdraw(y, "4"))
	wantRefusal(t, a, withdraw(y, "0.01"), account.CodeInsufficientFunds)

	z := uuid.New()
	if _, err := a.Do(t.Context(), deposit(z, "1")); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("before it is opened: %v", err)
	}
	must(t, b, request(z, account.Open{Owner: "Ada", Currency: eur}))
	must(t, a, deposit(z, "1"))
	must(t, b, deposit(z, "1")) // now at 3
	stale := deposit(z, "1")
	stale.IfVersions = []int64{3}
	must(t, a, stale)
	var version *command.VersionError
	if _, err := b.Do(t.Context(), stale); !errors.As(err, &version) || version.Have != 4 {
		t.Errorf("If-Match at B, which has cached 3: %v", err)
	}
	if _, err := a.Do(t.Context(), request(x, account.Open{Owner: "Ada", Currency: eur})); !errors.Is(err, account.ErrExists) {
		t.Errorf("open again: %v", err)
	}
	checkLog(t, pool)
}

// TestBatchOnTwoStaleAccounts has a batch on two accounts that another instance has changed: its commands must be decided as if
// both had been read afresh.
func TestBatchOnTwoStaleAccounts(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	x, y := open(t, a, "50"), open(t, a, "50")
	must(t, b, deposit(x, "70"))
	must(t, b, deposit(y, "950"))
	got := batched(t, pool, a, nil,
		withdraw(x, "100"),    // refused at the cached 50, accepted at 120
		transfer(x, y, "50"),  // accepted at the cached 50, refused at 20
		withdraw(y, "100.00"), // accepted at the cached 50 + 50; at the cached 50 alone refused; at 1000 accepted
	)
	var refusal *account.Refusal
	if got[0].err != nil || !errors.As(got[1].err, &refusal) || got[2].err != nil {
		t.Errorf("answers: %v, %v, %v", got[0].err, got[1].err, got[2].err)
	}
	checkLog(t, pool)
}

// TestReplayInBatchDoesNotAffectOthers has a batch that begins with a retry: the next command must not be refused as if the
// retry took the money a second time.
func TestReplayInBatchDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "100")
	first := keyed(withdraw(a, "50"))
	result := must(t, s, first)
	got := batched(t, pool, s, nil, first, withdraw(a, "50"), withdraw(a, "1"))
	if got[0].err != nil || !got[0].result.Replayed || got[1].err != nil {
		t.Fatalf("answers: %+v, %+v", got[0], got[1])
	}
	sameEvents(t, got[0].result, result)
	if _, ok := errors.AsType[*account.Refusal](got[2].err); !ok {
		t.Errorf("withdrew from nothing: %+v", got[2])
	}
	checkLog(t, pool)
}

// forget deletes all events after a position, as a failover to a standby that had not received them would.
func forget(t testing.TB, pool *pgxpool.Pool, after int64) {
	t.Helper()
	for _, statement := range []string{
		"delete from events where position > $1", "delete from idempotency_keys where first_position > $1",
	} {
		if _, err := pool.Exec(t.Context(), statement, after); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogLostItsTail(t *testing.T) {
	t.Parallel()
	open := account.Open{Owner: "Ada", Currency: eur}
	for name, test := range map[string]struct {
		// keep is how many of the account's five events are kept: its opening, and four deposits of 10.00.
		keep    int64
		then    account.Command
		version int64 // of the event, 0 when an error is expected
		err     error
	}{
		"deposit":               {3, account.Deposit{Amount: dec("1")}, 4, nil},
		"withdraw what is left": {3, account.Withdraw{Amount: dec("20")}, 4, nil},
		"withdraw what is lost": {3, account.Withdraw{Amount: dec("40")}, 0, new(account.Refusal)},
		"to the first event":    {1, account.Deposit{Amount: dec("1")}, 2, nil},
		"close":                 {1, account.Close{}, 2, nil},
		"account gone":          {0, account.Deposit{Amount: dec("1")}, 0, account.ErrNotFound},
		"open again":            {0, open, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.New(t)
			s := start(t, pool)
			id := uuid.New()
			must(t, s, request(id, open))
			for range 4 {
				must(t, s, deposit(id, "10"))
			}
			forget(t, pool, test.keep)
			result, err := s.Do(t.Context(), keyed(request(id, test.then)))
			var refusal *account.Refusal
			switch {
			case test.err == nil && (err != nil || result.Events[0].Version != test.version || result.Events[0].Position != test.keep+1):
				t.Errorf("got %+v, %v; want version %d", result, err, test.version)
			case errors.Is(test.err, account.ErrNotFound) && !errors.Is(err, account.ErrNotFound),
				errors.As(test.err, &refusal) && !errors.As(err, &refusal):
				t.Errorf("got %+v, %v; want %v", result, err, test.err)
			}
			checkLog(t, pool)
		})
	}
}

// TestLogLostItsTailAndGrew has the log lose events and another instance append others in their place: commands must be decided
// on the log as it is now.
func TestLogLostItsTailAndGrew(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a := start(t, pool)
	id := open(t, a, "10")
	must(t, a, withdraw(id, "10")) // A has version 3, empty
	forget(t, pool, 2)
	must(t, second(t, url), deposit(id, "5")) // version 3 is another event now, with 15
	if got := must(t, a, withdraw(id, "15")); got.Events[0].Version != 4 {
		t.Errorf("got %+v", got)
	}
	checkLog(t, pool)
}

// TestFailureEmptiesTheCache has a failover that the instance notices by a failed append: the events it had cached were replaced
// at the same versions, so that versions alone would not reveal it.
func TestFailureEmptiesTheCache(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	pool := newPool(t, url)
	a, b := start(t, pool), second(t, url)
	id := open(t, a, "100")
	forget(t, pool, 1)
	must(t, b, deposit(id, "5"))
	release := holdLock(t, pool)
	plug := blockAppend(t, pool, a)
	cancelAppend(t, pool)
	if got := <-plug; got.err == nil {
		t.Errorf("a cancelled append: %+v", got)
	}
	release()
	wantRefusal(t, a, withdraw(id, "50"), account.CodeInsufficientFunds)
	must(t, a, withdraw(id, "5"))
	checkLog(t, pool)
}

// TestUnreadableAccount has a newer release write an event that this one does not know: commands on its account fail, and others
// in the same batch succeed.
func TestUnreadableAccount(t *testing.T) {
	t.Parallel()
	for name, cached := range map[string]bool{"cached": true, "not cached": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			s := start(t, pool)
			a := open(t, s, "0")
			before := keyed(deposit(a, "10"))
			answer := must(t, s, before)
			b := open(t, s, "10")
			if _, err := pool.Exec(t.Context(), `insert into events
select 5, $1, 3, gen_random_uuid(), 'AccountRenamed', 1, '{}', '{}', recorded_at from events where position = 4`, a); err != nil {
				t.Fatal(err)
			}
			if !cached {
				s = second(t, url)
			}
			got := batched(t, pool, s, nil, withdraw(b, "1"), withdraw(a, "1"), transfer(b, a, "1"), deposit(a, "1"), withdraw(b, "2"))
			for i, wantErr := range []bool{false, true, true, true, false} {
				if (got[i].err != nil) != wantErr {
					t.Errorf("command %d: %+v", i, got[i])
				}
				if wantErr && !errors.Is(got[i].err, eventjson.ErrUnknownType) {
					t.Errorf("command %d: %v, want ErrUnknownType", i, got[i].err)
				}
			}
			wantReplay(t, s, before, answer) // replays the first answer, whatever has happened to the account since
		})
	}
}

// TestCommandAfterStaleOrReplayedOne has another instance change the account of a batch whose first command is decided on a stale
// version, or is a replay. The command behind it must be refused, although by version numbers alone it would fit the log.
func TestCommandAfterStaleOrReplayedOne(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]bool{"conflict": false, "duplicate": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			s, other := start(t, pool), second(t, url)
			a := open(t, s, "100")
			first := withdraw(a, "10")
			if keys {
				first = keyed(first)
				must(t, s, first)
			}
			must(t, other, withdraw(a, "80"))
			got := batched(t, pool, s, nil, first, withdraw(a, "60"))
			var refusal *account.Refusal
			if got[0].err != nil || !errors.As(got[1].err, &refusal) {
				t.Errorf("answers: %+v, %+v", got[0], got[1])
			}
			checkLog(t, pool)
		})
	}
}
