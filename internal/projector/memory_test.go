package projector_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// tally is a read model in memory: deposits by account.
type tally map[uuid.UUID]int64

// tallies makes the projection, whose handler fails at a position while it is not 0.
func tallies() (*projector.Memory[tally], *atomic.Int64) {
	m, faulty := projector.DefineMemory("tally", 1, func() tally { return make(tally) }), new(atomic.Int64)
	projector.On(m.Projection, func(t tally, at projector.Event, _ account.MoneyDeposited) error {
		if at.Position == faulty.Load() {
			return errors.New("the tally is full")
		}
		t[at.StreamID]++
		return nil
	})
	return m, faulty
}

func tallyStatus(t failer, e *projector.Engine) projector.Status {
	t.Helper()
	st, err := e.Projection(context.Background(), "tally")
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return st
}

// checkTally compares the model with the log up to where it is.
func (f *fixture) checkTally(t failer, m *projector.Memory[tally]) (position int64) {
	t.Helper()
	var total int64
	m.Read(func(model tally, at int64) {
		position = at
		for _, n := range model {
			total += n
		}
	})
	var want int64
	err := f.pool.QueryRow(context.Background(), `select count(*) from events where type = 'MoneyDeposited' and position <= $1`, position).
		Scan(&want)
	if err != nil || want != total {
		t.Fatalf("at %d the tally is %d, want %d, %v", position, total, want, err)
	}
	return position
}

func TestMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := newWriter(f.log, 140, 5)
	w.append(t, 60)
	cfg := f.config("one")
	cfg.Batch, cfg.Poll, cfg.Lease = 7, time.Hour, time.Hour // so that it is woken or nothing
	m, _ := tallies()
	e := newEngine(t, cfg, readmodel.Balances(), m.Projection)
	start(t, e)
	eventually(t, "it is built", func() bool { return f.checkTally(t, m) == 60 })
	w.append(t, 20)
	eventually(t, "it is woken", func() bool { e.Wake(); return f.checkTally(t, m) == 80 })
	st := tallyStatus(t, e)
	if st.State != "running" || st.Lag != 0 || st.Owner != "one" || st.Generation != 1 || st.Rate <= 0 || st.Replay != nil {
		t.Errorf("status: %+v", st)
	}
	// Another instance has its own.
	other, _ := tallies()
	cfg.Instance = "two"
	start(t, newEngine(t, cfg, readmodel.Balances(), other.Projection))
	eventually(t, "it is built elsewhere", func() bool { return f.checkTally(t, other) == 80 })

	if _, err := e.Rollback(t.Context(), "tally"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
		t.Errorf("rollback: %v", err)
	}
	if all, err := e.Failures(t.Context(), "tally", 0, 10); err != nil || len(all) != 0 {
		t.Errorf("failures: %+v, %v", all, err)
	}
	if _, err := e.RetryFailure(t.Context(), "tally", 1); !errors.Is(err, projector.ErrUnknownFailure) {
		t.Errorf("retry: %v", err)
	}
}

// TestMemoryReplay sees the model that is read stay whole while another is built, which then takes its place.
func TestMemoryReplay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := newWriter(f.log, 141, 5)
	w.append(t, 50)
	cfg := f.config("one")
	cfg.Batch = 5
	m, _ := tallies()
	e := newEngine(t, cfg, m.Projection)
	start(t, e)
	eventually(t, "it is built", func() bool { return f.checkTally(t, m) == 50 })
	m.Read(func(model tally, _ int64) { model[uuid.New()] = 0 }) // a trace that the log knows nothing of
	r, err := e.StartReplay(t.Context(), "tally")
	if err != nil || r.Total != 50 || r.Generation != 2 {
		t.Fatalf("started: %+v, %v", r, err)
	}
	var running *projector.ReplayRunningError
	if _, err := e.StartReplay(t.Context(), "tally"); !errors.As(err, &running) || running.Replay.ID != r.ID {
		t.Errorf("a second one: %v", err)
	}
	seen := int64(50)
	eventually(t, "the replay is completed", func() bool {
		w.append(t, 1)
		position := f.checkTally(t, m)
		if position < seen {
			t.Fatalf("the position went from %d to %d", seen, position)
		}
		seen = position
		r, err = e.Replay(t.Context(), "tally", r.ID)
		return err == nil && r.State == "completed"
	})
	accounts := 0
	m.Read(func(model tally, _ int64) { accounts = len(model) })
	if st := tallyStatus(t, e); st.Generation != 2 || accounts > 5 || r.Processed != r.Total || r.FinishedAt.IsZero() {
		t.Errorf("completed: %+v, %+v, %d accounts", st, r, accounts)
	}
	if all, err := e.Replays(t.Context(), "tally", 10); err != nil || len(all) != 1 || all[0].ID != r.ID {
		t.Errorf("history: %+v, %v", all, err)
	}
	if _, err := e.CancelReplay(t.Context(), "tally", r.ID); !errors.Is(err, projector.ErrReplayFinished) {
		t.Errorf("cancel of a finished one: %v", err)
	}
	if _, err := e.CancelReplay(t.Context(), "tally", uuid.New()); !errors.Is(err, projector.ErrUnknownReplay) {
		t.Errorf("cancel of none: %v", err)
	}
}

// TestMemoryHalts sees a projection in memory stop at what it cannot apply, a replay of it fail there, and both go on.
func TestMemoryHalts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := opened(t, f, 142, 2)
	at := w.deposit(t, w.ids[0], 3) + 1
	m, faulty := tallies()
	faulty.Store(at)
	e := newEngine(t, f.config("one"), m.Projection)
	start(t, e)
	eventually(t, "it is halted", func() bool { return tallyStatus(t, e).State == "halted" })
	st := tallyStatus(t, e)
	if st.Position != at-1 || st.ErrorPosition != at || !strings.Contains(st.Error, "full") || st.Failures == 0 {
		t.Errorf("halted: %+v", st)
	}
	f.checkTally(t, m)
	faulty.Store(0)
	eventually(t, "it goes on", func() bool { return f.checkTally(t, m) == at+1 })
	eventually(t, "it says so", func() bool { st = tallyStatus(t, e); return st.State == "running" && st.Error == "" })
	faulty.Store(at)
	r, err := e.StartReplay(t.Context(), "tally")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay has failed", func() bool { r, err = e.Replay(t.Context(), "tally", r.ID); return r.State == "failed" })
	if st = tallyStatus(t, e); st.Generation != 1 || st.State != "running" || !strings.Contains(r.Error, "full") {
		t.Errorf("failed: %+v, %+v", st, r)
	}
	f.checkTally(t, m)
}

func TestMemoryPauses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w := newWriter(f.log, 143, 3)
	w.append(t, 10)
	m, _ := tallies()
	log := &heldLog{Store: f.log, limit: 1 << 30}
	cfg := f.config("one")
	cfg.Log = log
	e := newEngine(t, cfg, m.Projection)
	start(t, e)
	eventually(t, "it is built", func() bool { return f.checkTally(t, m) == 10 })
	if st, err := e.Pause(t.Context(), "tally"); err != nil || st.State != "paused" {
		t.Fatalf("paused: %+v, %v", st, err)
	}
	r, err := e.StartReplay(t.Context(), "tally")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is built", func() bool { r, err = e.Replay(t.Context(), "tally", r.ID); return r.Processed == r.Total })
	if st := tallyStatus(t, e); st.State != "paused" || st.Generation != 1 {
		t.Errorf("while it is paused: %+v", st)
	}
	if cancelled, err := e.CancelReplay(t.Context(), "tally", r.ID); err != nil || cancelled.State != "cancelled" {
		t.Errorf("cancelled: %+v, %v", cancelled, err)
	}
	w.append(t, 10)
	if st, err := e.Resume(t.Context(), "tally"); err != nil || st.State != "running" {
		t.Fatalf("resumed: %+v, %v", st, err)
	}
	eventually(t, "it goes on", func() bool { return f.checkTally(t, m) == 20 })
}
