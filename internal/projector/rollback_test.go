package projector_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

func rollBack(t failer, e *projector.Engine) projector.Status {
	t.Helper()
	st, err := e.Rollback(context.Background(), "balances")
	if err != nil {
		t.Fatalf("rollback: %v", err)
	}
	return st
}

func TestRollback(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	w := newWriter(f.log, 120, 6)
	w.append(t, 50)
	start(t, e)
	f.applied(t, e)
	if _, err := e.Rollback(t.Context(), "balances"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
		t.Errorf("before any replay: %v", err)
	}
	completed(t, e, startReplay(t, e).ID)
	w.append(t, 30) // the previous generation has not seen these
	if st := f.applied(t, e); st.Generation != 2 || st.PreviousGeneration != 1 {
		t.Fatalf("after the replay: %+v", st)
	}
	st := rollBack(t, e)
	if st.Generation != 1 || st.PreviousGeneration != 2 || st.Position < 80 || st.Replay.Kind != "rollback" || st.Replay.State != "completed" {
		t.Errorf("rolled back: %+v, %+v", st, st.Replay)
	}
	f.checkFold(t)
	f.sameGenerations(t, 1, 2)
	w.append(t, 10)
	f.applied(t, e)
	if st = rollBack(t, e); st.Generation != 2 || st.PreviousGeneration != 1 {
		t.Errorf("and forward: %+v", st)
	}
	f.applied(t, e)

	all, err := e.Replays(t.Context(), "balances", 10)
	if err != nil || len(all) != 3 || all[0].Kind != "rollback" || all[1].Kind != "rollback" || all[2].Kind != "replay" {
		t.Errorf("history: %+v, %v", all, err)
	}
	if last, err := e.Replays(t.Context(), "balances", 1); err != nil || len(last) != 1 || last[0].ID != all[0].ID {
		t.Errorf("the last of the history: %+v, %v", last, err)
	}
	if r := completed(t, e, startReplay(t, e).ID); r.Generation != 3 {
		t.Errorf("completed: %+v", r)
	}
	if got := f.generations(t); len(got) != 2 || got[0] != 2 || got[1] != 3 {
		t.Errorf("generations %v", got)
	}
	f.applied(t, e)
	_, err1 := e.Rollback(t.Context(), "nothing")
	_, err2 := e.Replays(t.Context(), "nothing", 1)
	if !errors.Is(err1, projector.ErrUnknownProjection) || !errors.Is(err2, projector.ErrUnknownProjection) {
		t.Errorf("an unknown projection: %v, %v", err1, err2)
	}
}

// TestRollbackCancelled attacks the checkpoint of the previous generation: what a cancelled rollback has applied to it
// is not applied again by the next one, which the version check of the rows would refuse.
func TestRollbackCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.ReplayBatch, cfg.Lease = 10, time.Minute
	log := newHeldLog(f.log, cfg.ReplayBatch)
	cfg.Log = log
	p, brake := slowly(readmodel.Balances())
	e := newEngine(t, cfg, p)
	w := newWriter(f.log, 121, 6)
	w.append(t, 20)
	start(t, e)
	f.applied(t, e)
	go func() { // lets the replay through
		for range 2 {
			<-brake.asked
			brake.granted <- struct{}{}
		}
	}()
	completed(t, e, startReplay(t, e).ID)
	rollBack(t, e) // to generation 1, which has no brake
	w.append(t, 50)
	f.applied(t, e)

	log.from.Store(41) // or the third chunk might be written before the rollback is cancelled
	rolledBack := make(chan error, 1)
	go func() { _, err := e.Rollback(t.Context(), "balances"); rolledBack <- err }()
	receive(t, brake.asked)
	grant(t, brake)
	receive(t, brake.asked) // one chunk is written, and another is not
	id := status(t, e).Replay.ID
	cancelled := make(chan error, 1)
	go func() { _, err := e.CancelReplay(t.Context(), "balances", id); cancelled <- err }()
	f.waits(t, "'cancelled'")
	close(brake.free)
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	close(log.free)
	if err := <-rolledBack; !errors.Is(err, projector.ErrRollbackFailed) || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("a rollback that was cancelled returned %v", err)
	}
	if st := status(t, e); st.Generation != 1 || st.PreviousGeneration != 2 || st.Replay.State != "cancelled" {
		t.Errorf("cancelled: %+v, %+v", st, st.Replay)
	}
	if st := rollBack(t, e); st.Generation != 2 {
		t.Errorf("rolled back: %+v", st)
	}
	f.applied(t, e)
	f.sameGenerations(t, 1, 2)
}

// TestRollbackDuringFlip asks for a rollback while the flip of another is being committed: it goes back to what that one
// leaves as the previous generation, and comes to an end. The flip is written out here, to be held open.
func TestRollbackDuringFlip(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	newWriter(f.log, 125, 6).append(t, 30)
	stop := start(t, e)
	f.applied(t, e)
	completed(t, e, startReplay(t, e).ID)
	f.applied(t, e)
	stop()
	f.exec(t, `insert into projection_replays (id, projection, kind, version, generation, total, processed, position)
select gen_random_uuid(), id, 'rollback', previous_version, previous_generation, position, position, position from projections`)
	flip, err := f.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer flip.Rollback(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		`select from projections for update`,
		`update projection_replays set state = 'completed', finished_at = clock_timestamp() where state = 'running'`,
		`update projections set generation = previous_generation, version = previous_version,
previous_generation = generation, previous_version = version, previous_position = position`,
	} {
		if _, err := flip.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	asked := make(chan error, 1)
	go func() { _, err := e.Rollback(context.WithoutCancel(t.Context()), "balances"); asked <- err }()
	f.waits(t, "'rollback'")
	if err := flip.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	start(t, e)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	if st := status(t, e); st.Generation != 2 || st.PreviousGeneration != 1 || st.Replay.State != "completed" {
		t.Errorf("rolled back: %+v, %+v", st, st.Replay)
	}
	f.applied(t, e)
}

// TestRollbackAfterCleanup sees that there is nothing to go back to once a replay has begun, cancelled or not.
func TestRollbackAfterCleanup(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	p, brake := slowly(readmodel.Balances())
	e := newEngine(t, cfg, p)
	newWriter(f.log, 122, 6).append(t, 20)
	start(t, e)
	f.applied(t, e)
	go func() { <-brake.asked; brake.granted <- struct{}{} }()
	completed(t, e, startReplay(t, e).ID)
	rollBack(t, e)
	r := startReplay(t, e)
	receive(t, brake.asked)
	var running *projector.ReplayRunningError
	if _, err := e.Rollback(t.Context(), "balances"); err == nil || errors.As(err, &running) && running.Replay.ID != r.ID {
		t.Errorf("while a replay runs: %v", err)
	}
	close(brake.free)
	if _, err := e.CancelReplay(t.Context(), "balances", r.ID); err != nil && !errors.Is(err, projector.ErrReplayFinished) {
		t.Fatal(err)
	}
	if st := status(t, e); st.Replay.State == "cancelled" {
		if _, err := e.Rollback(t.Context(), "balances"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
			t.Errorf("after a cancelled replay: %v", err)
		}
	}
	f.applied(t, e)
}

// TestRollbackBesideReadersAndWriters attacks I6 for rollbacks: no position goes back, no account is missing, and no
// row is not some whole state of its account.
func TestRollbackBesideReadersAndWriters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Batch, cfg.ReplayBatch = 20, 50
	svc := query.New(f.pool, f.pool)
	e := newEngine(t, cfg)
	w := newWriter(f.log, 123, 10)
	w.append(t, 100)
	start(t, e)
	f.applied(t, e)
	completed(t, e, startReplay(t, e).ID)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		ticker := time.NewTicker(3 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			w.append(t, 5)
			e.Wake()
			<-ticker.C
		}
	})
	for i := range 2 {
		others.Go(func() {
			var seen int64
			for n := i; ctx.Err() == nil; n++ {
				seen = w.look(t, svc, w.ids[n%len(w.ids)], seen)
			}
		})
	}
	for want := range 4 {
		if st := rollBack(t, e); st.Generation != 1+int64(want)%2 {
			t.Errorf("rolled back: %+v", st)
		}
		f.checkFold(t)
	}
	cancel()
	others.Wait()
	f.applied(t, e)
}

// TestRolledBackVersionStays sees code whose rows were rolled back from not rebuild them by itself when it starts, and
// the older code, whose rows are live again, go on.
func TestRolledBackVersionStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := newEngine(t, f.config("old"))
	w := newWriter(f.log, 124, 6)
	w.append(t, 30)
	stop := start(t, old)
	f.applied(t, old)
	stop()
	newer := readmodel.Balances()
	newer.Version++
	e := newEngine(t, f.config("newer"), newer)
	stop = start(t, e)
	eventually(t, "it is rebuilt", func() bool { return status(t, e).Generation == 2 })
	if st := rollBack(t, e); st.Generation != 1 || st.Version != readmodel.Balances().Version {
		t.Errorf("rolled back: %+v", st)
	}
	stop()
	e = newEngine(t, f.config("newer again"), newer)
	stop = start(t, e)
	w.append(t, 10)
	if st := f.applied(t, e); st.Generation != 1 || st.Replay.Kind != "rollback" {
		t.Errorf("it was rebuilt by itself: %+v, %+v", st, st.Replay)
	}
	stop()
	start(t, old)
	w.append(t, 10)
	if st := f.applied(t, old); st.Owner != "old" || st.Position != 50 {
		t.Errorf("under the older code: %+v", st)
	}
}
