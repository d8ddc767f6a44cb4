package projector_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// TestAnyInterleaving drives engines through random interleavings of appends, replays, rollbacks, cancellations, pauses, crashes,
// orderly stops, and accounts that cannot be applied. At every step the read model is the fold of the log up to its
// checkpoint, without what is parked; in the end, of all of it.
func TestAnyInterleaving(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		f.exec(t, `truncate events, idempotency_keys, projection_replays, projections, balances, projection_failures`)
		m := &machine{f: f, w: newWriter(f.log, rapid.Uint64().Draw(t, "seed"), 4)}
		defer func() { m.stop() }()
		m.restart(t)
		for _, action := range rapid.SliceOfN(rapid.SampledFrom([]string{
			"append", "append", "append", "catch up", "replay", "cancel", "crash", "stop", "pause", "rollback", "fault", "mend",
		}), 1, 12).Draw(t, "actions") {
			m.act(t, action)
			f.checkFold(t)
		}
		m.faulty.Store(nil)
		if _, err := m.e.Resume(t.Context(), "balances"); err != nil {
			t.Fatalf("resume: %v", err)
		}
		f.applied(t, m.e)
		eventually(t, "no replay runs", func() bool {
			r := status(t, m.e).Replay
			return r == nil || r.State != "running"
		})
		if r := status(t, m.e).Replay; r != nil && r.State == "failed" && !m.faults {
			t.Fatalf("the replay has failed: %+v", r)
		}
		eventually(t, "nothing is parked", func() bool { return status(t, m.e).Parked == 0 })
		f.applied(t, m.e)
	})
}

// machine is an engine that can be crashed and started again.
type machine struct {
	f      *fixture
	w      *writer
	e      *projector.Engine
	stop   func()
	crash  func()
	replay uuid.UUID

	faulty atomic.Pointer[uuid.UUID] // the account whose events cannot be applied, nil for none
	faults bool                      // whether there ever was one
}

// restart starts the next engine, under another name or the same.
func (m *machine) restart(t *rapid.T) {
	cfg := m.f.config(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"))
	cfg.Lease, cfg.Poll = 60*time.Millisecond, time.Millisecond
	cfg.Retry, cfg.MaxParked = 20*time.Millisecond, 3
	cfg.Batch, cfg.ReplayBatch = rapid.IntRange(1, 6).Draw(t, "batch"), rapid.IntRange(1, 6).Draw(t, "replay batch")
	cfg.ReadBatch = rapid.IntRange(1, 4).Draw(t, "read at once")
	pool, err := postgres.NewPool(t.Context(), m.f.url, postgres.WithMaxConns(5))
	if err != nil {
		t.Fatalf("pool: %v", err)
	}
	cfg.Pool = pool
	e := newEngine(t, cfg, readmodel.Balances().WithFault(func(at projector.Event) error {
		if id := m.faulty.Load(); id != nil && *id == at.StreamID {
			return errors.New("this account is faulty")
		}
		return nil
	}))
	end := launch(e)
	m.e = e
	m.stop = func() { end(); pool.Close() }
	m.crash = func() { pool.Close(); end() } // without a word: the lease runs out
}

func (m *machine) act(t *rapid.T, action string) {
	var err error
	switch action {
	case "append":
		m.w.append(t, rapid.IntRange(1, 15).Draw(t, "events"))
		m.e.Wake()
	case "catch up":
		if status(t, m.e).State != "paused" {
			m.f.applied(t, m.e)
		}
	case "replay":
		r, startErr := m.e.StartReplay(t.Context(), "balances")
		if startErr == nil {
			m.replay = r.ID
		}
	case "cancel":
		if m.replay != uuid.Nil {
			_, _ = m.e.CancelReplay(t.Context(), "balances", m.replay) // it may be over
		}
	case "rollback":
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, _ = m.e.Rollback(ctx, "balances") // there may be nothing to go back to; what has begun goes on
		cancel()
	case "fault":
		m.faults = true
		m.faulty.Store(new(rapid.SampledFrom(m.w.ids).Draw(t, "faulty")))
	case "mend":
		m.faulty.Store(nil)
	case "crash":
		m.crash()
		m.restart(t)
	case "stop":
		m.stop()
		m.restart(t)
	case "pause":
		if status(t, m.e).State == "paused" {
			_, err = m.e.Resume(t.Context(), "balances")
		} else {
			_, err = m.e.Pause(t.Context(), "balances")
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
}
