package projector_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"passbook/internal/projector"
)

// TestCleanupOverAFailover attacks I6: the database goes back while generations that are over are deleted, as when a standby
// takes over that has not received the last commits. What is live by then, or can be rolled back to, is left alone.
func TestCleanupOverAFailover(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// goBack undoes what the standby has not received, given the first replay, which is completed, and the second.
		goBack func(t *testing.T, f *fixture, tx pgx.Tx, first, second projector.Replay)
		// replayed tells whether the first replay then completes for a second time.
		replayed bool
	}{
		"the flip is lost": {func(t *testing.T, _ *fixture, tx pgx.Tx, first, second projector.Replay) {
			t.Helper()
			execIn(t, tx, `delete from projection_replays where id = $1`, second.ID)
			execIn(t, tx, `update projection_replays set state = 'running', finished_at = null where id = $1`, first.ID)
			execIn(t, tx, `update projections set generation = 1, previous_generation = null where id = 'balances'`)
		}, true},
		"that the previous generation is over is lost": {func(t *testing.T, _ *fixture, tx pgx.Tx, _, second projector.Replay) {
			t.Helper()
			execIn(t, tx, `update projection_replays set state = 'cancelled', finished_at = now() where id = $1`, second.ID)
			execIn(t, tx, `update projections set previous_generation = 1, previous_version = version, previous_position = position,
previous_event_id = last_event_id where id = 'balances'`)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			e := newEngine(t, f.config("one"))
			newWriter(f.log, 50, 3).append(t, 30)
			start(t, e)
			f.applied(t, e)
			first := completed(t, e, startReplay(t, e).ID)

			tx, err := f.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			execIn(t, tx, `lock table balances in access exclusive mode`)
			second := startReplay(t, e)
			f.waits(t, "select min(generation) from")
			test.goBack(t, f, tx, first, second)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if test.replayed {
				completed(t, e, first.ID)
			}
			// The clean-up is over when its worker does the rollback.
			if st := rollBack(t, e); st.Generation != 1 {
				t.Errorf("rolled back: %+v", st)
			}
			f.checkFold(t)
			f.sameGenerations(t, 1, 2)
		})
	}
}

func execIn(t *testing.T, tx pgx.Tx, sql string, args ...any) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
