package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
	"passbook/internal/notify"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

func TestAppliesWhatIsAppended(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var last atomic.Int64
	cfg := f.config("one")
	cfg.Batch = 7
	cfg.Applied = func(id string, position int64) {
		if id != "balances" || position <= last.Swap(position) {
			t.Errorf("Applied(%q, %d) after %d", id, position, last.Load())
		}
	}
	e := newEngine(t, cfg)
	if st := status(t, e); st.State != "running" || st.Position != 0 || st.Head != 0 || st.Owner != "" || st.Generation != 1 || st.Version != readmodel.Balances().Version {
		t.Errorf("before the engine has run: %+v", st)
	}
	w := newWriter(f.log, 1, 10)
	w.append(t, 50)
	if st := status(t, e); st.Lag != 50 || st.Head != 50 || st.LagSeconds <= 0 {
		t.Errorf("with a log that is not applied: %+v", st)
	}
	start(t, e)
	f.applied(t, e)
	w.append(t, 30)
	e.Wake()
	st := f.applied(t, e)
	if st.Position != 80 || st.Owner != "one" || st.Rate <= 0 || st.LagSeconds != 0 || st.Error != "" || st.Replay != nil {
		t.Errorf("applied: %+v", st)
	}
	if last.Load() != 80 {
		t.Errorf("Applied was told %d", last.Load())
	}
	if all, err := e.Projections(t.Context()); err != nil || len(all) != 1 || all[0].Position != 80 {
		t.Errorf("Projections: %+v, %v", all, err)
	}
	if _, err := e.Projection(t.Context(), "nothing"); !errors.Is(err, projector.ErrUnknownProjection) {
		t.Errorf("an unknown projection: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	noName, noDecode := f.config(""), f.config("one")
	noDecode.Decode = nil
	for name, cfg := range map[string]projector.Config{"no name": noName, "no decoder": noDecode, "nothing": {}} {
		if _, err := projector.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := projector.New(f.config("one"), readmodel.Balances(), readmodel.Balances()); err == nil {
		t.Error("a projection registered twice: no error")
	}
}

// TestFlushThatFails attacks I4: whatever a flush has written when it fails is gone, and the checkpoint has not moved
// until the account is parked.
func TestFlushThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var fails, panics atomic.Bool
	fails.Store(true)
	tried := make(chan struct{}, 1000)
	p := readmodel.Balances().WithFlush(func(_ context.Context, _ pgx.Tx, _ int64, flush func() error) error {
		if err := flush(); err != nil {
			return err
		}
		if panics.Load() {
			panic("the fold is beside itself")
		}
		if fails.Load() {
			tried <- struct{}{}
			return errors.New("the disk is made of cheese")
		}
		return nil
	})
	e := newEngine(t, f.config("one"), p)
	start(t, e)
	w := newWriter(f.log, 2, 3)
	w.append(t, 1) // opens the account that the failing event is of
	for range 2 {
		receive(t, tried)
		if position := f.checkFold(t); position != 0 {
			t.Fatalf("the checkpoint is at %d", position)
		}
	}
	f.parkedAt(t, e, 1, "cheese")
	fails.Store(false)
	f.retry(t, e, 1)
	f.applied(t, e)
	panics.Store(true)
	w.append(t, 1) // opens another one
	f.parkedAt(t, e, 2, "beside itself")
	panics.Store(false)
	f.retry(t, e, 2)
	if st := f.applied(t, e); st.Error != "" || st.ErrorPosition != 0 || st.Failures < 8 {
		t.Errorf("healed, and still %+v", st)
	}
}

// TestConnectionsCutAtRandom attacks I4: the engine's backends are killed in the middle of everything, over and over,
// while rows and checkpoint are compared with the log in one snapshot.
func TestConnectionsCutAtRandom(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Pool = newPool(t, f.url, postgres.WithApplicationName("victim"))
	cfg.Batch, cfg.ReplayBatch = 3, 10
	e := newEngine(t, cfg)
	start(t, e)
	onlooker := newEngine(t, f.config("onlooker")) // not run; it has connections that are not cut

	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	w := newWriter(f.log, 3, 12)
	writing.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			w.append(t, 4)
			e.Wake()
			<-ticker.C
		}
	})
	if _, err := onlooker.StartReplay(t.Context(), "balances"); err != nil {
		t.Fatal(err)
	}
	before := int64(-1)
	for kills := 0; kills < 25; {
		var killed int
		err := f.pool.QueryRow(t.Context(), `select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
where application_name = 'victim' and datname = current_database() and random() < 0.7`).Scan(&killed)
		if err != nil {
			t.Fatal(err)
		}
		kills += killed
		// Let it get somewhere, and look at it while it does.
		for range rand.IntN(20) {
			position := f.checkFold(t)
			if position < before {
				t.Fatalf("the checkpoint went from %d back to %d", before, position)
			}
			before = position
		}
	}
	cancel()
	writing.Wait()
	f.applied(t, onlooker)
	eventually(t, "the replay is over", func() bool { return status(t, onlooker).Replay.State == "completed" })
	f.applied(t, onlooker)
}

// TestDatabaseUnavailable sees the engine wait out a database that it cannot reach, without a halt.
func TestDatabaseUnavailable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// A session cannot close the database that it is connected to.
	u, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	admin := newPool(t, u.String())
	order := func(format string) {
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(format, database)); err != nil {
			t.Fatal(err)
		}
	}
	probe, err := f.pool.Acquire(t.Context()) // stays connected
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Release()
	book := new(logbook)
	cfg := f.config("one")
	cfg.Pool, cfg.Logger = newPool(t, f.url, postgres.WithApplicationName("unavailable")), book.logger()
	cfg.Log = eventstore.New(cfg.Pool)
	e := newEngine(t, cfg)
	w := newWriter(f.log, 4, 3)
	w.append(t, 10)
	start(t, e)
	f.applied(t, e)
	order(`alter database %s allow_connections false`)
	order(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'unavailable' and datname = '%s'`)
	for _, complaint := range []string{"applying events failed", "renewing the lease or reading the checkpoint failed", "replaying failed"} {
		eventually(t, "the engine complains: "+complaint, func() bool { return book.has(complaint) })
	}
	var failures int
	err = probe.QueryRow(t.Context(), `select error_count from projections where status = 'running'`).Scan(&failures)
	if err != nil || failures != 0 {
		t.Errorf("%d failures recorded, %v", failures, err)
	}
	order(`alter database %s allow_connections true`)
	w.append(t, 10)
	f.applied(t, e)
}

// TestGap attacks the assertion that the log has no gap.
func TestGap(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	w := newWriter(f.log, 5, 3)
	w.append(t, 20)
	f.exec(t, `create table taken as select * from events where position = 12`)
	f.exec(t, `delete from events where position = 12`)
	start(t, e)
	var st projector.Status
	eventually(t, "the projection is halted", func() bool { st = status(t, e); return st.State == "halted" })
	if st.Position != 11 || st.ErrorPosition != 12 || !strings.Contains(st.Error, "gap") || st.Lag != 9 {
		t.Errorf("at the gap: %+v", st)
	}
	f.checkFold(t)
	f.exec(t, `insert into events table taken`)
	if st = f.applied(t, e); st.Position != 20 || st.Error != "" || st.ErrorPosition != 0 {
		t.Errorf("healed: %+v", st)
	}
}

// TestUnknownType attacks I7: what cannot be understood is not skipped, and all before it is applied.
func TestUnknownType(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	w := newWriter(f.log, 6, 3)
	w.append(t, 10)
	stream := f.mystery(t)
	w.append(t, 5)
	stop := start(t, e)
	halted := func(e *projector.Engine) func() bool {
		return func() bool {
			st := status(t, e)
			return st.State == "halted" && st.Position == 10 && st.ErrorPosition == 11 && strings.Contains(st.Error, "Mystery")
		}
	}
	eventually(t, "the projection is halted at the event", halted(e))
	f.checkFold(t)
	stop()
	next := newEngine(t, f.config("two"))
	start(t, next)
	eventually(t, "the next owner tries", func() bool { return status(t, next).Owner == "two" })
	eventually(t, "it is halted for the next owner", halted(next))
	f.exec(t, `update events set type = 'AccountCreated', payload = '{"owner": "m", "currency": "EUR", "overdraft_limit": 0}'
where stream_id = $1`, stream)
	if st := f.applied(t, next); st.Position != 16 {
		t.Errorf("healed: %+v", st)
	}
}

// TestObservesWhatPrecedesAFailure sees events counted that were applied in front of one that could not be.
func TestObservesWhatPrecedesAFailure(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(f *fixture, w *writer, x *fault){
		"its stream is parked":     func(_ *fixture, w *writer, x *fault) { x.strike(w.ids[2], 0) },
		"the projection is halted": func(f *fixture, _ *writer, _ *fault) { f.mystery(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			x := newFault()
			var observed atomic.Int64
			cfg := f.config("one")
			cfg.Observe = func(_ string, events int64, _ time.Duration) { observed.Add(events) }
			e := newEngine(t, cfg, x.of(readmodel.Balances()))
			w := opened(t, f, 11, 3)
			fail(f, w, x)
			start(t, e)
			eventually(t, "the first three events are applied", func() bool { return status(t, e).Position == 3 })
			eventually(t, "and observed", func() bool { return observed.Load() == 3 })
		})
	}
}

// TestBatchAfterAFailureIsFull sees a batch that fills its limit, which a failure has lowered, followed by the next one at once.
func TestBatchAfterAFailureIsFull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Batch, cfg.Poll, cfg.Lease, cfg.BatchDelay = 16, time.Hour, time.Hour, time.Hour
	var failed atomic.Bool
	e := newEngine(t, cfg, readmodel.Balances().WithFlush(func(_ context.Context, _ pgx.Tx, _ int64, flush func() error) error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("not so many at once")
		}
		return flush()
	}))
	newWriter(f.log, 12, 4).append(t, 40) // in batches of 8, 16 and 16
	start(t, e)
	f.applied(t, e)
}

// TestRowThatDoesNotFit sees the event found, in the middle of a large batch, that cannot be written for the state of
// its row; its account alone parked; and a replay heal it.
func TestRowThatDoesNotFit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	w := newWriter(f.log, 7, 5)
	w.append(t, 40)
	stop := start(t, e)
	f.applied(t, e)
	stop()
	w.append(t, 100)
	f.exec(t, `update balances set version = version + 1000 where account_id = $1`, w.ids[2])
	var first int64
	err := f.pool.QueryRow(t.Context(), `select min(position) from events where stream_id = $1 and position > 40`, w.ids[2]).Scan(&first)
	if err != nil {
		t.Fatal(err)
	}
	e = newEngine(t, f.config("one"))
	start(t, e)
	var st projector.Status
	eventually(t, "the rest of the log is applied", func() bool { st = status(t, e); return st.Position == 140 })
	all, err := e.Failures(t.Context(), "balances", 0, 10)
	if err != nil || len(all) != 1 || all[0].Position != first || all[0].StreamID != w.ids[2] ||
		!strings.Contains(all[0].Error, "version") || st.Parked != 1 || st.State != "running" {
		t.Errorf("parked: %+v, %+v, want the event %d", all, st, first)
	}
	if _, err := e.StartReplay(t.Context(), "balances"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is live", func() bool { return status(t, e).Generation == 2 })
	if st = f.applied(t, e); st.Error != "" || st.Parked != 0 {
		t.Errorf("after the replay: %+v", st)
	}
}

// TestHaltEndsWithoutNewEvents sees a halt that no event is to blame for end by itself when nothing is left to be applied.
func TestHaltEndsWithoutNewEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	start(t, e)
	newWriter(f.log, 8, 2).append(t, 5)
	f.applied(t, e)
	f.exec(t, `alter table events rename to misplaced`)
	eventually(t, "the projection is halted", func() bool {
		var state string
		_ = f.pool.QueryRow(t.Context(), `select status from projections`).Scan(&state)
		return state == "halted"
	})
	f.exec(t, `alter table misplaced rename to events`)
	if st := f.applied(t, e); st.Error != "" {
		t.Errorf("healed: %+v", st)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	flips := &counter{text: "for update"}
	cfg := f.config("one")
	cfg.Pool = newPool(t, f.url, postgres.WithTracer(flips))
	e := newEngine(t, cfg)
	w := newWriter(f.log, 9, 3)
	w.append(t, 10)
	start(t, e)
	f.applied(t, e)
	if st, err := e.Pause(t.Context(), "balances"); err != nil || st.State != "paused" {
		t.Fatalf("pause: %+v, %v", st, err)
	}
	w.append(t, 10)
	// A replay is built meanwhile, but its generation does not go live.
	r, err := e.StartReplay(t.Context(), "balances")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replay is built", func() bool {
		r, err = e.Replay(t.Context(), "balances", r.ID)
		return err == nil && r.Processed == r.Total && flips.n.Load() > 2
	})
	if st := status(t, e); st.State != "paused" || st.Position != 10 || st.Lag != 10 || st.Generation != 1 || r.State != "running" {
		t.Errorf("paused: %+v, replay %+v", st, r)
	}
	f.checkFold(t)
	if st, err := e.Resume(t.Context(), "balances"); err != nil || st.State != "running" {
		t.Fatalf("resume: %+v, %v", st, err)
	}
	eventually(t, "the replay is completed", func() bool { return status(t, e).Replay.State == "completed" })
	f.applied(t, e)
	for _, control := range []func(context.Context, string) (projector.Status, error){e.Pause, e.Resume} {
		if _, err := control(t.Context(), "nothing"); !errors.Is(err, projector.ErrUnknownProjection) {
			t.Errorf("an unknown projection: %v", err)
		}
	}
}

// TestStopsAtOnce sees Run end when it is told to, whatever it waits for.
func TestStopsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Poll, cfg.Lease = time.Hour, time.Hour
	e := newEngine(t, cfg)
	stop := start(t, e)
	newWriter(f.log, 10, 2).append(t, 5)
	eventually(t, "the log is applied", func() bool { e.Wake(); return status(t, e).Position == 5 })
	stop()
	if st := status(t, e); st.Owner != "" {
		t.Errorf("the lease was not given up: %+v", st)
	}
	next := cfg
	next.Instance = "two"
	e = newEngine(t, next)
	start(t, e)
	eventually(t, "the next one owns it", func() bool { return status(t, e).Owner == "two" })
}

// TestWokenByAnotherInstance sees an engine that never polls apply what another instance has appended, and, when its
// connection was cut, what it missed meanwhile.
func TestWokenByAnotherInstance(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("here")
	cfg.Poll, cfg.Lease = time.Hour, time.Hour
	cfg.Notifier = notify.New(newPool(t, f.url, postgres.WithApplicationName("listener")), "here")
	e := newEngine(t, cfg)
	start(t, e)
	there := notify.New(f.pool, "there")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- there.Run(ctx) }()

	listens := func() (n int) {
		_ = f.pool.QueryRow(t.Context(), `select count(*) from pg_stat_activity
where application_name = 'listener' and datname = current_database() and query = 'listen passbook_events'`).Scan(&n)
		return n
	}
	eventually(t, "it listens", func() bool { return listens() == 1 })
	w := newWriter(f.log, 144, 3)
	w.append(t, 10)
	there.Notify()
	f.applied(t, e)

	f.exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'listener' and datname = current_database()`)
	w.append(t, 10)
	there.Notify() // the listener is disconnected
	f.applied(t, e)
	w.append(t, 10)
	there.Notify()
	f.applied(t, e)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
