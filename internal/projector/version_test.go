package projector_test

import (
	"testing"
	"time"

	"passbook/internal/postgres"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

// TestNewVersionRebuilds sees newer code rebuild the rows by itself, while the old generation serves.
func TestNewVersionRebuilds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := newEngine(t, f.config("old"))
	w := newWriter(f.log, 46, 6)
	w.append(t, 50)
	stop := start(t, old)
	f.applied(t, old)
	stop()

	newer := readmodel.Balances()
	newer.Version++
	newer, brake := slowly(newer)
	cfg := f.config("new")
	cfg.ReplayBatch, cfg.Lease = 20, time.Minute
	e := newEngine(t, cfg, newer)
	start(t, e)
	receive(t, brake.asked)
	w.append(t, 10)
	st := f.applied(t, e)
	if st.Generation != 1 || st.Version != newer.Version-1 || st.Position != 60 || st.Replay == nil || st.Replay.State != "running" {
		t.Errorf("while it is rebuilt: %+v", st)
	}
	if a, _, err := query.New(f.pool, f.pool).Account(t.Context(), w.ids[0], query.Wait{}); err != nil || a.Balance != w.states[w.ids[0]].Balance {
		t.Errorf("while it is rebuilt: %+v, %v", a, err)
	}
	close(brake.free)
	completed(t, e, st.Replay.ID)
	if st = f.applied(t, e); st.Generation != 2 || st.Version != newer.Version {
		t.Errorf("rebuilt: %+v", st)
	}
}

// TestNewVersionRebuildsAfterARollback sees newer code finish a rollback that was running, and then rebuild the rows.
func TestNewVersionRebuildsAfterARollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := newEngine(t, f.config("old"))
	newWriter(f.log, 50, 6).append(t, 50)
	stop := start(t, old)
	f.applied(t, old)
	completed(t, old, startReplay(t, old).ID)
	f.applied(t, old)
	stop()
	f.exec(t, `insert into projection_replays (id, projection, kind, version, generation, total, processed, position, last_event_id)
select gen_random_uuid(), id, 'rollback', previous_version, previous_generation, previous_position, previous_position,
       previous_position, previous_event_id from projections`)

	newer := readmodel.Balances()
	newer.Version++
	e := newEngine(t, f.config("new"), newer)
	start(t, e)
	eventually(t, "the rows are rebuilt", func() bool { return status(t, e).Version == newer.Version })
	all, err := e.Replays(t.Context(), "balances", 10)
	if err != nil || len(all) != 3 || all[0].Kind != "replay" || all[0].Generation != 3 || all[1].Kind != "rollback" || all[1].State != "completed" {
		t.Errorf("history: %+v, %v", all, err)
	}
	f.applied(t, e)
}

// TestReplayOfOlderCode sees a replay that older code has begun start over under newer code, so that no generation
// holds rows of both; and older code leave alone one that newer code has begun.
func TestReplayOfOlderCode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("old")
	cfg.ReplayBatch, cfg.Lease = 10, time.Minute
	p, brake := slowly(readmodel.Balances())
	old := newEngine(t, cfg, p)
	newWriter(f.log, 47, 6).append(t, 50)
	stop := start(t, old)
	f.applied(t, old)
	r := startReplay(t, old)
	receive(t, brake.asked)
	grant(t, brake)
	receive(t, brake.asked)
	stop()
	// Rows of a first chunk in generation 2, which newer code would have written otherwise.
	f.exec(t, `update balances set owner = 'as the old code had it' where generation = 2`)

	newer := readmodel.Balances()
	newer.Version++
	newer, brake = slowly(newer)
	cfg.Instance = "new"
	e := newEngine(t, cfg, newer)
	stop = start(t, e)
	receive(t, brake.asked)
	grant(t, brake)
	receive(t, brake.asked)
	stop()
	got, err := e.Replay(t.Context(), "balances", r.ID)
	if err != nil || got.Generation != 3 || got.Processed != 10 {
		t.Fatalf("begun anew: %+v, %v", got, err)
	}

	cfg.Instance = "old again"
	old = newEngine(t, cfg)
	stop = start(t, old)
	f.applied(t, old)
	newWriter(f.log, 48, 3).append(t, 10)
	f.applied(t, old)
	stop()
	if got, err = old.Replay(t.Context(), "balances", r.ID); err != nil || got.State != "running" || got.Processed != 10 {
		t.Errorf("the older code went on with it: %+v, %v", got, err)
	}

	newer = readmodel.Balances()
	newer.Version++
	cfg.Instance = "new again"
	e = newEngine(t, cfg, newer)
	start(t, e)
	completed(t, e, r.ID)
	if st := f.applied(t, e); st.Generation != 3 || st.Version != newer.Version {
		t.Errorf("rebuilt: %+v", st)
	}
}

// TestOlderCodeTakesNoLease sees an engine whose code is older than the rows leave them alone.
func TestOlderCodeTakesNoLease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newer := readmodel.Balances()
	newer.Version++
	e := newEngine(t, f.config("newer"), newer)
	w := newWriter(f.log, 26, 5)
	w.append(t, 10)
	stop := start(t, e)
	f.applied(t, e)
	stop()
	w.append(t, 10)
	cfg, asked := f.config("older"), &counter{text: "epoch = epoch + 1"}
	cfg.Pool, cfg.Lease = newPool(t, f.url, postgres.WithTracer(asked)), 30*time.Millisecond
	older := newEngine(t, cfg)
	stop = start(t, older)
	eventually(t, "the older engine has tried a few times", func() bool { return asked.n.Load() > 3 })
	if st := status(t, older); st.Owner != "" || st.Position != 10 || st.Version != newer.Version || f.epoch(t) != 1 {
		t.Errorf("the older code has touched it: %+v", st)
	}
	stop()
	e = newEngine(t, f.config("newer"), newer)
	start(t, e)
	if st := f.applied(t, e); st.Position != 20 || st.Generation != 1 {
		t.Errorf("the newer code goes on: %+v", st)
	}
}
