package readmodel_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// lowestRead is a log that records the lowest position after which it was read.
type lowestRead struct {
	projector.Log
	after atomic.Int64
}

func (l *lowestRead) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	l.after.Store(min(l.after.Load(), after))
	return l.Log.ReadAfter(ctx, after, limit)
}

// startStats runs an engine with the projection stats until the test ends or stop is called.
func startStats(t *testing.T, pool *pgxpool.Pool, log projector.Log, instance string) (e *projector.Engine, stop func()) {
	t.Helper()
	e, err := projector.New(projector.Config{
		Pool: pool, Log: log, Instance: instance, Poll: 5 * time.Millisecond, Lease: 300 * time.Millisecond,
		Decode: func(name string, version int, payload []byte) (any, error) {
			return eventjson.Decode(name, version, payload)
		},
	}, readmodel.Stats())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = e.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return e, stop
}

func awaitStats(t *testing.T, e *projector.Engine, what string, done func(projector.Status) bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	var st projector.Status
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-ticker.C {
		var err error
		if st, err = e.Projection(t.Context(), "stats"); err != nil {
			t.Fatal(err)
		}
		if done(st) {
			return
		}
	}
	t.Fatalf("timed out: %s; it is %+v", what, st)
}

func someAccounts(n int) []accountEvent {
	all := make([]accountEvent, n)
	for i := range all {
		all[i] = accountEvent{uuid.New(), account.AccountCreated{Owner: "o", Currency: eur}}
	}
	return all
}

// TestStatsIsOneProjectionOfAllInstances requests a pause and a replay from one of two instances, and expects the other to report both.
func TestStatsIsOneProjectionOfAllInstances(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	appendAll(t, pool, someAccounts(10))
	log := eventstore.New(pool)
	one, _ := startStats(t, pool, log, "one")
	two, _ := startStats(t, pool, log, "two")
	for _, e := range []*projector.Engine{one, two} {
		awaitStats(t, e, "all is applied", func(st projector.Status) bool { return st.Position == 10 })
	}
	if _, err := one.Pause(t.Context(), "stats"); err != nil {
		t.Fatal(err)
	}
	if st, err := two.Projection(t.Context(), "stats"); err != nil || st.State != "paused" {
		t.Errorf("paused at one instance, but the other reports %q, %v", st.State, err)
	}
	if _, err := two.Resume(t.Context(), "stats"); err != nil {
		t.Fatal(err)
	}
	replay, err := one.StartReplay(t.Context(), "stats")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := two.Replay(t.Context(), "stats", replay.ID); err != nil || got.Total != 10 {
		t.Errorf("the other instance reports the replay as %+v, %v", got, err)
	}
	awaitStats(t, two, "the replay is live", func(st projector.Status) bool { return st.Generation == replay.Generation })
}

// TestStatsGoesOnAfterARestart restarts the engine, and expects it to continue from the checkpoint, not from the start of the log.
func TestStatsGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	appendAll(t, pool, someAccounts(10))
	log := eventstore.New(pool)
	e, stop := startStats(t, pool, log, "one")
	awaitStats(t, e, "all is applied", func(st projector.Status) bool { return st.Position == 10 })
	stop()

	pgtest.Append(t, log, newAccount(t))
	watched := &lowestRead{Log: log}
	watched.after.Store(1 << 62)
	e, _ = startStats(t, pool, watched, "one")
	awaitStats(t, e, "the rest is applied", func(st projector.Status) bool { return st.Position == 11 })
	if after := watched.after.Load(); after < 9 { // the event at the checkpoint is read to see that the log still has it
		t.Errorf("after the restart the log was read after position %d, want 9 or later", after)
	}
}

func newAccount(t *testing.T) eventstore.NewEvent {
	t.Helper()
	e, err := eventjson.Encode(account.AccountCreated{Owner: "o", Currency: eur})
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	return eventstore.NewEvent{
		StreamID: id, Version: 1, EventID: pgtest.EventID(id, 1), Type: e.Type, SchemaVersion: e.SchemaVersion, Payload: e.Payload,
	}
}
