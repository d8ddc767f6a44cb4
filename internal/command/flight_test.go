package command_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/command"
	"passbook/internal/pgtest"
)

// ahead has one command wait for the append lock and the others go out ahead of its answer, in a flight of their own.
// What is given to then happens while both wait.
func ahead(t *testing.T, pool *pgxpool.Pool, s *command.Service, first command.Request, then func(), others ...command.Request) (answered, []answered) {
	t.Helper()
	release := holdLock(t, pool)
	one := async(t.Context(), s, first)
	untilWaiting(t, pool, 1)
	all := make([]<-chan answered, len(others))
	for i, r := range others {
		all[i] = async(t.Context(), s, r)
	}
	then()
	release()
	got := <-one
	rest := make([]answered, len(others))
	for i := range all {
		rest[i] = <-all[i]
	}
	return got, rest
}

// untilWaiting waits until so many appends wait for the lock.
func untilWaiting(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	until(t, pool, `select count(*) = $1 from pg_locks where locktype = 'advisory' and not granted
and database = (select oid from pg_database where datname = current_database())`, n)
}

func many(n int, one func() command.Request) []command.Request {
	all := []command.Request{}
	for range n {
		all = append(all, one())
	}
	return all
}

// TestAheadOfAFlight has a flight spend what the one before it, which nothing has confirmed yet, brings in.
func TestAheadOfAFlight(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "0")
	first, rest := ahead(t, pool, s, deposit(a, "10"), func() { untilWaiting(t, pool, 2) },
		many(8, func() command.Request { return keyed(withdraw(a, "1.25")) })...)
	if first.err != nil {
		t.Errorf("first: %v", first.err)
	}
	for i, got := range rest {
		if got.err != nil {
			t.Errorf("command %d: %v", i, got.err)
		}
	}
	if log := checkLog(t, pool); log.accounts[a].Balance != 0 {
		t.Errorf("the balance is %d", log.accounts[a].Balance)
	}
}

// TestFollowersOfAFlightThatLost attacks I3: what was decided on a flight that lost was decided on a state that never
// was, though the versions fit the log.
func TestFollowersOfAFlightThatLost(t *testing.T) {
	t.Parallel()
	for name, duplicate := range map[string]bool{"conflict": false, "duplicate": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			s, other := start(t, pool), second(t, url)
			a := open(t, s, "100")
			lost := withdraw(a, "10")
			if duplicate {
				lost = keyed(lost)
				must(t, s, lost)
			}
			must(t, other, withdraw(a, "79")) // 21 are left, or 11; the first instance thinks of 100 and 90
			first, rest := ahead(t, pool, s, lost, func() { untilWaiting(t, pool, 2) },
				many(8, func() command.Request { return withdraw(a, "5") })...)
			if first.err != nil || first.result.Replayed != duplicate {
				t.Errorf("first: %+v", first)
			}
			applied := 0
			for _, got := range rest {
				if got.err == nil {
					applied++
				} else if _, ok := errors.AsType[*account.Refusal](got.err); !ok {
					t.Errorf("refused with %v", got.err)
				}
			}
			if log := checkLog(t, pool); applied != 2 || log.accounts[a].Balance != 1_00 {
				t.Errorf("%d were applied, the balance is %d", applied, log.accounts[a].Balance)
			}
		})
	}
}

// TestRefusalsWaitForTheFlightBefore has commands be refused, or not, for what a flight brings that has not landed.
func TestRefusalsWaitForTheFlightBefore(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a, b := open(t, s, "0"), open(t, s, "0")
	others := append(many(7, func() command.Request { return withdraw(a, "1") }), withdraw(a, "8"), withdraw(b, "1"), deposit(uuid.New(), "1"))
	first, rest := ahead(t, pool, s, deposit(a, "7"), func() {
		// All but, perhaps, one are taken up, and none of them can be answered before the flight has landed.
		waitFor(t, "taken up", func() bool { return s.Waiting() <= 1 })
	}, others...)
	if first.err != nil {
		t.Errorf("first: %v", first.err)
	}
	for i, got := range rest {
		if (got.err == nil) != (i < 7) {
			t.Errorf("command %d: %+v", i, got)
		}
	}
	checkLog(t, pool)
}

// TestFlightThatFails has the database cancel both of two flights: neither outcome is known to the service, and what it
// remembers of their accounts must not be used.
func TestFlightThatFails(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	s := start(t, pool)
	a := open(t, s, "10")
	first, rest := ahead(t, pool, s, deposit(a, "90"), func() {
		untilWaiting(t, pool, 2)
		cancelAppend(t, pool)
		untilWaiting(t, pool, 0)
	}, many(8, func() command.Request { return withdraw(a, "11") })...)
	for i, got := range append(rest, first) {
		if got.err == nil {
			t.Errorf("command %d: cancelled, but %+v", i, got)
		}
	}
	wantRefusal(t, s, withdraw(a, "11"), account.CodeInsufficientFunds)
	must(t, s, withdraw(a, "10"))
	checkLog(t, pool)
}
