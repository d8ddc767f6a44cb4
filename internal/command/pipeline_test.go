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

// TestDecidedAhead has a large batch decided while the one before it waits for the append lock, and that one then go in,
// lose to another instance, or come to an unknown end.
func TestDecidedAhead(t *testing.T) {
	t.Parallel()
	const many = 300
	for name, test := range map[string]struct {
		// meanwhile is what another instance does to the account, and what the batches do not know of.
		meanwhile func(id uuid.UUID) command.Request
		// cut ends the first append in the middle.
		cut bool
		// first and second are how many withdrawals of 1.00 of each batch are to be accepted, of an account with 600.00.
		first, second int
	}{
		"it goes in":                     {first: many, second: many},
		"it loses to another instance":   {func(id uuid.UUID) command.Request { return withdraw(id, "590") }, false, 10, 0},
		"it gains by another instance":   {func(id uuid.UUID) command.Request { return deposit(id, "50") }, false, many, many},
		"nobody knows what became of it": {cut: true, first: 0, second: many},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			pool := newPool(t, url)
			s, other := start(t, newPool(t, url)), second(t, url)
			id := open(t, s, "600")
			if test.meanwhile != nil {
				must(t, other, test.meanwhile(id))
			}
			release := holdLock(t, pool)
			first := eachAsync(t, s, withdrawals(id, many))
			until(t, pool, pgtest.AppendWaits)
			then := withdrawals(id, many)
			then[0] = keyed(then[0])
			next := eachAsync(t, s, then)
			// Sent, and taken up, and so decided, while the first is not appended yet.
			waitFor(t, "the second batch is sent", func() bool { return s.InFlight() == 1 })
			waitFor(t, "the second batch is taken up", func() bool { return s.Queued() == 0 })
			if test.cut {
				cut(t, pool)
			} else {
				release()
			}
			accepted := count(t, <-first, test.cut)
			if test.cut {
				release()
			}
			if again := count(t, <-next, false); accepted != test.first || again != test.second {
				t.Errorf("accepted %d and %d, want %d and %d", accepted, again, test.first, test.second)
			}
			checkLog(t, pool)
		})
	}
}

// cut ends the session whose append waits for the lock.
func cut(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted
and database = (select oid from pg_database where datname = current_database())`)
	if err != nil {
		t.Fatal(err)
	}
}

func withdrawals(id uuid.UUID, n int) []command.Request {
	requests := make([]command.Request, n)
	for i := range requests {
		requests[i] = withdraw(id, "1")
	}
	return requests
}

// eachAsync has the requests decided together, and sends what became of them.
func eachAsync(t *testing.T, s *command.Service, requests []command.Request) <-chan []command.Outcome {
	t.Helper()
	ctx := t.Context()
	outcomes := make(chan []command.Outcome, 1)
	go func() { outcomes <- s.DoEach(ctx, requests) }()
	return outcomes
}

// count is how many were accepted. The others are refused by the rules, or failed if they all may.
func count(t *testing.T, outcomes []command.Outcome, mayFail bool) (accepted int) {
	t.Helper()
	for i := range outcomes {
		var refusal *account.Refusal
		switch err := outcomes[i].Err; {
		case err == nil:
			accepted++
		case !mayFail && !errors.As(err, &refusal):
			t.Errorf("command %d: %v", i, err)
		}
	}
	return accepted
}
