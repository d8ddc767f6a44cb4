package projector_test

import (
	"errors"
	"strings"
	"testing"

	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// TestReplayOfAnArchivedLog refuses replays while the log begins later. The previous generation, and a rollback to it, are not affected.
func TestReplayOfAnArchivedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	w := newWriter(f.log, 60, 6)
	w.append(t, 50)
	start(t, e)
	f.applied(t, e)
	completed(t, e, startReplay(t, e).ID)
	w.append(t, 20)
	f.applied(t, e)
	rollBack(t, e) // so that both generations have reached position 70
	w.append(t, 10)
	f.applied(t, e)
	pgtest.Archive(t, f.pool, 61)
	_, err := e.StartReplay(t.Context(), "balances")
	if archived, ok := errors.AsType[*projector.ArchivedError](err); !ok || archived.First != 61 {
		t.Errorf("replay: %v", err)
	}
	if st := rollBack(t, e); st.Generation != 2 || st.PreviousGeneration != 1 {
		t.Errorf("rolled back: %+v", st)
	}
	w.append(t, 10)
	if st := status(t, e); st.Replay == nil || st.Replay.Kind != "rollback" || st.State != projector.Running {
		t.Errorf("%+v", st)
	}
}

// TestNewVersionOfAnArchivedLog starts newer code, which cannot rebuild the rows: the old generation goes on serving, the replay has
// failed once and says why, and a rollback works as before.
func TestNewVersionOfAnArchivedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old := newEngine(t, f.config("old"))
	w := newWriter(f.log, 61, 6)
	w.append(t, 50)
	stop := start(t, old)
	f.applied(t, old)
	completed(t, old, startReplay(t, old).ID)
	w.append(t, 20)
	f.applied(t, old)
	rollBack(t, old)
	w.append(t, 10)
	f.applied(t, old)
	stop()
	pgtest.Archive(t, f.pool, 61)

	newer := readmodel.Balances()
	newer.Version++
	e := newEngine(t, f.config("new"), newer)
	start(t, e)
	eventually(t, "the replay has failed", func() bool {
		r := status(t, e).Replay
		return r != nil && r.Kind == projector.KindReplay && r.State == projector.ReplayFailed && strings.Contains(r.Error, "up to position 60 are in the archive")
	})
	w.append(t, 10)
	eventually(t, "the old generation has applied the log", func() bool { return status(t, e).Position == 90 })
	if st := status(t, e); st.Version != newer.Version-1 || st.State != projector.Running || st.Generation != 1 || st.PreviousGeneration != 2 {
		t.Errorf("%+v", st)
	}
	if st := rollBack(t, e); st.Generation != 2 {
		t.Errorf("rolled back: %+v", st)
	}
	all, err := e.Replays(t.Context(), "balances", 10)
	if err != nil || len(all) != 4 {
		t.Errorf("history: %+v, %v", all, err)
	}
}

// TestNewProjectionOfAnArchivedLog adds a projection that has to read the log from its beginning: it is halted, and says why.
func TestNewProjectionOfAnArchivedLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 62, 6).append(t, 50)
	pgtest.Archive(t, f.pool, 31)
	e := newEngine(t, f.config("one"))
	start(t, e)
	eventually(t, "it is halted", func() bool {
		st := status(t, e)
		return st.State == projector.Halted && strings.Contains(st.Error, "up to position 30 are in the archive") && st.Lag == 50
	})
}
