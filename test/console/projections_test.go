//go:build browser

package console

import (
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
)

// barrier makes each row of a generation under construction wait for a lock, which the test takes and releases.
const barrier = `create function wait_at_barrier() returns trigger language plpgsql as
$$ begin if new.generation > 1 then perform pg_advisory_xact_lock_shared(4711); end if; return new; end $$;
create trigger barrier before insert on balances for each row execute function wait_at_barrier()`

// TestProjectionsAreOperated pauses and resumes, replays twice, once cancelled, and rolls back.
func TestProjectionsAreOperated(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.deposit(ada, "10.00")
	s.exec(barrier)
	b := browse(t, s.gate.URL, "/projections")
	b.until(`document.querySelectorAll('.projection').length === 5`)
	// No button is where another one will be once the state is known.
	known := make(chan struct{})
	s.gate.instead(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/projections/balances" {
			<-known
		}
		return false
	})
	b.link("balances")
	b.until(`document.querySelector('h1').innerText === 'balances'`)
	if shown, err := eval[bool](b, `[...document.querySelectorAll('.panel-head button')].some((e) => e.checkVisibility())`); err != nil || shown {
		t.Errorf("buttons are offered before it is known which there are (%v)", err)
	}
	close(known)
	s.gate.instead(nil)

	b.button("Pause")
	b.until(`document.querySelector('.projection .badge').innerText === 'paused'`)
	s.deposit(ada, "1.00")
	b.sees("1 behind")
	b.button("Resume")
	b.until(`document.querySelector('.projection .badge').innerText === 'running'`)
	b.sees("3 of 3")

	held, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	if _, err := held.Exec(t.Context(), "select pg_advisory_lock(4711)", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	b.button("Replay")
	b.until(`document.querySelector('dialog .about').innerText.split('. ').length === 2`)
	b.submitted()
	b.until(`document.querySelector('.replay progress').max === 3`)
	b.sees("Replay to generation 2", "0 of 3 events", "left")
	b.click(".replay button", "Cancel")
	// The cancellation waits for the rows being written, which wait at the barrier.
	s.eventually("the cancellation has arrived", func() bool {
		var waiting int
		err := s.pool.QueryRow(t.Context(), "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()").Scan(&waiting)
		return err == nil && waiting >= 2
	})
	if _, err := held.Exec(t.Context(), "select pg_advisory_unlock(4711)", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	b.sees("Cancelled. The live read model is unchanged.", "The last replay was cancelled")

	b.button("Replay")
	b.submitted()
	b.sees("The last replay was completed, with 3 of 3 events.")
	b.until(`[...document.querySelectorAll('tbody tr')].length === 2`)
	b.button("Roll back")
	b.submitted()
	b.sees("The last rollback was completed")
	b.until(`[...document.querySelectorAll('dt')].find((e) => e.innerText === 'Generation').nextSibling.innerText.startsWith('1 (previous: ')`)
	if got := s.balance(ada, 3); got != "11.00" {
		t.Errorf("the balance is %s", got)
	}
}

// TestFailuresAreRetried parks an account at an event that cannot be applied, and retries it once it can.
func TestFailuresAreRetried(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ada := s.open("Ada Lovelace", "EUR")
	s.exec("alter table balances add constraint modest check (balance < 100000)")
	position := s.deposit(ada, "5000.00")
	s.deposit(ada, "1.00")
	b := browse(t, s.gate.URL, "/projections", "status of 404")
	b.sees("1 account waits at an event that could not be applied.")
	b.link("See the failures")
	b.until(`document.querySelector('tbody tr').innerText.includes('MoneyDeposited')`)
	b.until(`[...document.querySelectorAll('td[data-label=Waiting]')].map((e) => e.innerText).join().includes('2')`)
	s.exec("alter table balances drop constraint modest")
	b.button("Retry")
	b.sees("None: every event has been applied.")
	if got := s.balance(ada, position+1); got != "5001.00" {
		t.Errorf("the balance is %s", got)
	}
	b.visit("/projections/nothing")
	b.sees("There is no such projection.")
}
