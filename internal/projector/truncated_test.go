package projector_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"passbook/internal/eventstore"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// loseTail has the log lose what comes after a position, and then grow by other events to another.
func (f *fixture) loseTail(t failer, seed uint64, after, head int64) {
	t.Helper()
	f.exec(t, `delete from events where position > $1`, after)
	if head > after {
		newWriter(f.log, seed, 3).append(t, int(head-after))
	}
}

// wentBack are the ways in which a log of 20 events goes back.
var wentBack = map[string]struct{ after, head int64 }{
	"and is shorter":      {15, 15},
	"and has grown again": {15, 20},
	"and is longer":       {15, 30},
	"to nothing":          {0, 0},
	"by one":              {19, 20},
}

// TestTruncatedLogHalts attacks I4: a projection that has applied what the log does not hold any more applies nothing on
// top of it, and says what to do. A replay then makes it right.
func TestTruncatedLogHalts(t *testing.T) {
	t.Parallel()
	for name, tt := range wentBack {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			e := newEngine(t, f.config("one"))
			start(t, e)
			newWriter(f.log, 300, 5).append(t, 20)
			f.applied(t, e)
			f.loseTail(t, 301, tt.after, tt.head)
			eventually(t, "it has halted", func() bool { return status(t, e).State == "halted" })
			if st := status(t, e); st.Position != 20 || st.Head != tt.head || st.ErrorPosition != 20 ||
				!strings.Contains(st.Error, "the log was truncated") || !strings.Contains(st.Error, "server replay balances") {
				t.Errorf("halted: %+v", st)
			}
			r, err := e.StartReplay(t.Context(), "balances")
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the replay is over", func() bool {
				r, err = e.Replay(t.Context(), "balances", r.ID)
				return err == nil && r.State != "running"
			})
			if st := f.applied(t, e); r.State != "completed" || st.Position != tt.head || st.Error != "" || st.PreviousGeneration != 0 {
				t.Errorf("after the replay: %+v, %+v", r, st)
			}
			if _, err := e.Rollback(t.Context(), "balances"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
				t.Errorf("rollback to what is not of this log: %v", err)
			}
			newWriter(f.log, 302, 3).append(t, 10)
			if st := f.applied(t, e); st.Position != tt.head+10 {
				t.Errorf("it goes on: %+v", st)
			}
		})
	}
}

// TestReplayOfATruncatedLog has a replay and a rollback go on from a checkpoint whose event is lost.
func TestReplayOfATruncatedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	stop := start(t, e)
	newWriter(f.log, 320, 5).append(t, 20)
	f.applied(t, e)
	replay := func(engine *projector.Engine, id uuid.UUID) (r projector.Replay) {
		t.Helper()
		eventually(t, "the replay is over", func() (over bool) {
			var err error
			r, err = engine.Replay(t.Context(), "balances", id)
			return err == nil && r.State != "running"
		})
		return r
	}
	r, err := e.StartReplay(t.Context(), "balances")
	if err != nil || replay(e, r.ID).State != "completed" {
		t.Fatalf("%+v, %v", r, err)
	}
	stop()
	// One that is under way, at position 18, on an instance that is gone.
	id := uuid.New()
	f.exec(t, `insert into projection_replays (id, projection, version, generation, total, processed, position, last_event_id)
select $1, 'balances', version, 3, 20, 18, 18, (select event_id from events where position = 18) from projections`, id)
	f.loseTail(t, 321, 15, 30)
	next := newEngine(t, f.config("two"))
	start(t, next)
	if r := replay(next, id); r.State != "failed" || !strings.Contains(r.Error, "the log was truncated") {
		t.Errorf("a replay under way: %+v", r)
	}
	if _, err := next.Rollback(t.Context(), "balances"); !errors.Is(err, projector.ErrRollbackFailed) || !strings.Contains(err.Error(), "the log was truncated") {
		t.Errorf("rollback: %v", err)
	}
	r, err = next.StartReplay(t.Context(), "balances")
	if err != nil || replay(next, r.ID).State != "completed" {
		t.Fatalf("%+v, %v", r, err)
	}
	f.applied(t, next)
}

// TestCheckpointOfAnotherLogIsNotMoved attacks I5: a failover may put a checkpoint with an epoch and a position into place that
// an owner has too, and of another log.
func TestCheckpointOfAnotherLogIsNotMoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 330, 5).append(t, 10)
	e := newEngine(t, f.config("before"))
	stop := start(t, e)
	f.applied(t, e)
	stop()
	newWriter(f.log, 331, 5).append(t, 10)
	gated := newGatedLog(f.log)
	cfg := f.config("one")
	cfg.Log = gated
	e = newEngine(t, cfg)
	start(t, e)
	receive(t, gated.held)
	f.exec(t, `update projections set last_event_id = gen_random_uuid()`)
	close(gated.gate)
	eventually(t, "it has halted", func() bool { return status(t, e).State == "halted" })
	if st := status(t, e); st.Position != 10 {
		t.Errorf("the checkpoint was moved: %+v", st)
	}
}

// TestFollowersOfATruncatedLog runs several projections together, which share what they read.
func TestFollowersOfATruncatedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Batch = 3
	e := newEngine(t, cfg, readmodel.Balances(), readmodel.Transactions(), readmodel.Totals())
	start(t, e)
	newWriter(f.log, 340, 5).append(t, 20)
	all := func(holds func(projector.Status) bool) bool {
		statuses, err := e.Projections(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i := range statuses {
			if !holds(statuses[i]) {
				return false
			}
		}
		return true
	}
	eventually(t, "all is applied", func() bool { return all(func(s projector.Status) bool { return s.Position == 20 }) })
	var lost []eventstore.Event
	lost, err := f.log.ReadAfter(t.Context(), 15, 5)
	if err != nil || len(lost) != 5 {
		t.Fatal(lost, err)
	}
	f.loseTail(t, 341, 15, 40)
	eventually(t, "all have halted", func() bool {
		return all(func(s projector.Status) bool { return s.State == "halted" && s.Position == 20 })
	})
	for _, id := range []string{"balances", "transactions", "totals"} {
		if _, err := e.StartReplay(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all run again", func() bool {
		return all(func(s projector.Status) bool {
			return s.State == "running" && s.Position == 40 && s.Replay.State == "completed"
		})
	})
	f.checkFold(t)
	var of int
	if err := f.pool.QueryRow(t.Context(), `select count(*) from transactions x join projections p on p.id = 'transactions' and p.generation = x.generation
where x.account_id = $1 and x.position > 15`, lost[0].StreamID).Scan(&of); err != nil || of != 0 {
		t.Errorf("%d rows of lost events, %v", of, err)
	}
}
