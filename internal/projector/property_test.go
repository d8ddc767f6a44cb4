package projector_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"passbook/internal/postgres"
	"passbook/internal/projector"
)

// TestAnyInterleaving drives engines through random interleavings of appends, replays, cancellations, pauses, crashes
// and orderly stops. At every step the read model is the fold of the log up to its checkpoint; in the end, of all of it.
func TestAnyInterleaving(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	rapid.Check(t, func(t *rapid.T) {
		f.exec(t, `truncate events, idempotency_keys, projection_replays, projections, balances`)
		m := &machine{f: f, w: newWriter(f.log, rapid.Uint64().Draw(t, "seed"), 4)}
		defer func() { m.stop() }()
		m.restart(t)
		for _, action := range rapid.SliceOfN(rapid.SampledFrom([]string{
			"append", "append", "append", "catch up", "replay", "cancel", "crash", "stop", "pause",
		}), 1, 12).Draw(t, "actions") {
			m.act(t, action)
			f.checkFold(t)
		}
		if _, err := m.e.Resume(t.Context(), "balances"); err != nil {
			t.Fatalf("resume: %v", err)
		}
		f.applied(t, m.e)
		if m.replay != uuid.Nil {
			var state string
			eventually(t, "the replay is over", func() bool { state = status(t, m.e).Replay.State; return state != "running" })
			if state == "failed" {
				t.Fatalf("the replay has failed: %+v", status(t, m.e).Replay)
			}
			f.applied(t, m.e)
		}
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
}

// restart starts the next engine, under another name or the same.
func (m *machine) restart(t *rapid.T) {
	pool, err := postgres.NewPool(t.Context(), m.f.url, postgres.WithMaxConns(5))
	if err != nil {
		t.Fatalf("pool: %v", err)
	}
	cfg := m.f.config(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"))
	cfg.Pool, cfg.Lease, cfg.Poll = pool, 60*time.Millisecond, time.Millisecond
	cfg.Batch, cfg.ReplayBatch = rapid.IntRange(1, 6).Draw(t, "batch"), rapid.IntRange(1, 6).Draw(t, "replay batch")
	e := newEngine(t, cfg)
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
		if status(t, m.e).State == "running" {
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
