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
	"passbook/internal/money"
	"passbook/internal/pgtest"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

// parkedAt waits until the whole log is applied but for an account that is parked at a position.
func (f *fixture) parkedAt(t failer, e *projector.Engine, position int64, text string) projector.Failure {
	t.Helper()
	var one projector.Failure
	eventually(t, "an account is parked, and everything else is applied", func() bool {
		st := status(t, e) // first: what waits is counted with the position
		all, err := e.Failures(context.Background(), "balances", position-1, 1)
		if err != nil || len(all) != 1 || st.Lag != 0 || st.State != "running" {
			return false
		}
		one = all[0]
		return one.Parked && one.Waiting > 0 && one.Position == position && strings.Contains(one.Error, text)
	})
	f.checkFold(t)
	return one
}

// retry asks for a parked account to be tried, and waits until it has been.
func (f *fixture) retry(t failer, e *projector.Engine, position int64) {
	t.Helper()
	if _, err := e.RetryFailure(context.Background(), "balances", position); err != nil {
		t.Fatalf("retry of %d: %v", position, err)
	}
	eventually(t, "it is tried", func() bool {
		var waits bool
		err := f.pool.QueryRow(context.Background(), `select exists (select from projection_failures where retry)`).Scan(&waits)
		return err == nil && !waits
	})
}

// fault is the events that handlers cannot apply: of an account, from a position on; none by default.
type fault struct {
	account atomic.Pointer[uuid.UUID]
	from    atomic.Int64
	tried   chan int64
}

func newFault() *fault { return &fault{tried: make(chan int64, 10_000)} }

func (x *fault) strike(id uuid.UUID, from int64) { x.account.Store(&id); x.from.Store(from) }
func (x *fault) mend()                           { x.account.Store(nil) }

func (x *fault) of(p *projector.Projection) *projector.Projection {
	return p.WithFault(func(at projector.Event) error {
		if id := x.account.Load(); id == nil || *id != at.StreamID || at.Position < x.from.Load() {
			return nil
		}
		select {
		case x.tried <- at.Position:
		default:
		}
		return errors.New("this account is faulty")
	})
}

// deposit appends n deposits to an account, one a batch, and returns the position of the first.
func (w *writer) deposit(t failer, id uuid.UUID, n int) (first int64) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		e := account.MoneyDeposited{Amount: money.New(100, w.states[id].Currency)}
		state, err := account.Evolve(w.states[id], e)
		if err != nil {
			t.Fatalf("deposit: %v", err)
		}
		position, _ := pgtest.Append(t, w.log, eventOf(t, id, int64(len(w.history[id])+1), e))
		w.states[id] = state
		w.history[id] = append(w.history[id], moment{state, position})
		if first == 0 {
			first = position
		}
	}
	return first
}

// opened is a log with accounts that are open and active, and nothing else.
func opened(t *testing.T, f *fixture, seed uint64, accounts int) *writer {
	t.Helper()
	w := newWriter(f.log, seed, accounts)
	w.append(t, accounts)
	return w
}

// TestParking attacks item by item what is promised of an event that cannot be applied.
func TestParking(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	cfg := f.config("one")
	cfg.Retry = time.Hour
	e := newEngine(t, cfg, x.of(readmodel.Balances()))
	w := opened(t, f, 100, 4)
	start(t, e)
	f.applied(t, e)

	bad := w.ids[1]
	x.strike(bad, 0)
	at := w.deposit(t, bad, 1)
	got := f.parkedAt(t, e, at, "faulty")
	if got.StreamID != bad || got.Type != "MoneyDeposited" || got.Attempts != 4 || got.Waiting != 1 || got.FirstFailedAt.After(got.LastTriedAt) {
		t.Errorf("parked: %+v", got)
	}
	if n := len(x.tried); n != 4 {
		t.Errorf("tried %d times before it was parked", n)
	}
	// The others go on, and its own events wait, without a try.
	w.deposit(t, w.ids[0], 5)
	w.deposit(t, bad, 7)
	w.deposit(t, w.ids[2], 5)
	if got = f.parkedAt(t, e, at, "faulty"); got.Waiting != 8 || len(x.tried) != 4 {
		t.Errorf("waiting: %+v, tried %d times", got, len(x.tried))
	}
	if st := status(t, e); st.Parked != 1 || st.Failures != 4 || st.Error != "" {
		t.Errorf("status: %+v", st)
	}
	// A try that fails is one more attempt, and nothing else.
	f.retry(t, e, at)
	if got = f.parkedAt(t, e, at, "faulty"); got.Attempts != 5 || got.Waiting != 8 {
		t.Errorf("tried again: %+v", got)
	}
	// With the cause gone, its events are applied in order, or the version check of the rows would say so.
	x.mend()
	f.retry(t, e, at)
	eventually(t, "nothing is parked", func() bool { return status(t, e).Parked == 0 })
	f.applied(t, e)
	for _, position := range []int64{at, 1 << 60} {
		if _, err := e.RetryFailure(t.Context(), "balances", position); !errors.Is(err, projector.ErrUnknownFailure) {
			t.Errorf("retry of what has not failed: %v", err)
		}
	}
	_, err1 := e.RetryFailure(t.Context(), "nothing", 1)
	_, err2 := e.Failures(t.Context(), "nothing", 0, 1)
	if !errors.Is(err1, projector.ErrUnknownProjection) || !errors.Is(err2, projector.ErrUnknownProjection) {
		t.Errorf("an unknown projection: %v, %v", err1, err2)
	}
}

// TestEventThatSucceedsOnRetry sees an event applied that failed once or twice, with nothing left of it but the count.
func TestEventThatSucceedsOnRetry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	e := newEngine(t, f.config("one"), x.of(readmodel.Balances()))
	w := opened(t, f, 101, 3)
	start(t, e)
	f.applied(t, e)
	x.strike(w.ids[0], 0)
	w.deposit(t, w.ids[0], 1)
	<-x.tried
	x.mend()
	st := f.applied(t, e)
	all, err := e.Failures(t.Context(), "balances", 0, 10)
	if err != nil || len(all) != 0 || st.Parked != 0 || st.Failures < 1 || st.Failures > 3 {
		t.Errorf("passed: %+v, %+v, %v", st, all, err)
	}
}

// TestParkedStreamIsRetried sees a parked account tried by itself, in pieces, up to the event that still fails.
func TestParkedStreamIsRetried(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	cfg := f.config("one")
	cfg.Retry, cfg.Batch = 10*time.Millisecond, 3
	e := newEngine(t, cfg, x.of(readmodel.Balances()))
	w := opened(t, f, 102, 3)
	start(t, e)
	f.applied(t, e)
	x.strike(w.ids[0], 0)
	first := w.deposit(t, w.ids[0], 20)
	f.parkedAt(t, e, first, "faulty")
	x.from.Store(first + 10)
	if got := f.parkedAt(t, e, first+10, "faulty"); got.Waiting != 10 {
		t.Errorf("parked further on: %+v", got)
	}
	x.mend()
	eventually(t, "nothing is parked", func() bool { return status(t, e).Parked == 0 })
	f.applied(t, e)
}

// TestNextOwnerKeepsParkedStreams sees the next owner keep parked what was, and drain it when another instance was asked.
func TestNextOwnerKeepsParkedStreams(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	cfg := f.config("first")
	cfg.Retry = time.Hour
	first := newEngine(t, cfg, x.of(readmodel.Balances()))
	w := opened(t, f, 103, 3)
	x.strike(w.ids[0], 0)
	stop := start(t, first)
	eventually(t, "it is parked", func() bool { return status(t, first).Parked == 1 })
	f.parkedAt(t, first, 1, "faulty")
	stop()
	x.mend()
	cfg.Instance = "second"
	second := newEngine(t, cfg, x.of(readmodel.Balances()))
	start(t, second)
	w.deposit(t, w.ids[0], 5)
	if got := f.parkedAt(t, second, 1, "faulty"); got.Waiting != 6 {
		t.Errorf("under the next owner: %+v", got)
	}
	onlooker := newEngine(t, f.config("onlooker")) // not run
	f.retry(t, onlooker, 1)
	eventually(t, "nothing is parked", func() bool { return status(t, second).Parked == 0 })
	f.applied(t, second)
}

// TestTooManyParked sees the projection halt, rather than park account after account, and go on when it can.
func TestTooManyParked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var broken atomic.Bool
	broken.Store(true)
	cfg := f.config("one")
	cfg.MaxParked, cfg.Retry = 2, 20*time.Millisecond
	e := newEngine(t, cfg, readmodel.Balances().WithFault(func(projector.Event) error {
		if broken.Load() {
			return errors.New("the handler is broken")
		}
		return nil
	}))
	opened(t, f, 104, 5)
	start(t, e)
	var st projector.Status
	eventually(t, "the projection is halted", func() bool { st = status(t, e); return st.State == "halted" })
	if st.Parked != 2 || st.Position != 2 || st.ErrorPosition != 3 || !strings.Contains(st.Error, "broken") {
		t.Errorf("halted: %+v", st)
	}
	f.checkFold(t)
	broken.Store(false)
	f.applied(t, e)
	eventually(t, "nothing is parked", func() bool { return status(t, e).Parked == 0 })
	if st = f.applied(t, e); st.Error != "" {
		t.Errorf("healed: %+v", st)
	}
}

// TestSchemaErrorParksNothing sees the projection halt, with nothing parked, when what is wrong is the schema.
func TestSchemaErrorParksNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	opened(t, f, 105, 5)
	f.exec(t, `alter table balances rename to misplaced`)
	start(t, e)
	var st projector.Status
	eventually(t, "the projection is halted", func() bool { st = status(t, e); return st.State == "halted" })
	if st.Parked != 0 || st.Position != 0 || !strings.Contains(st.Error, "balances") {
		t.Errorf("halted: %+v", st)
	}
	f.exec(t, `alter table misplaced rename to balances`)
	f.applied(t, e)
}

// TestUnknownTypeOfAParkedAccount sees an event of an unknown type halt the projection even where it would only wait.
func TestUnknownTypeOfAParkedAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	cfg := f.config("one")
	cfg.Retry = time.Hour
	e := newEngine(t, cfg, x.of(readmodel.Balances()))
	w := opened(t, f, 106, 3)
	start(t, e)
	f.applied(t, e)
	x.strike(w.ids[0], 0)
	at := w.deposit(t, w.ids[0], 1)
	f.parkedAt(t, e, at, "faulty")
	stream := f.mystery(t)
	f.exec(t, `update events set stream_id = $1, version = 3 where stream_id = $2`, w.ids[0], stream)
	eventually(t, "the projection is halted", func() bool { return status(t, e).State == "halted" })
	if st := status(t, e); st.ErrorPosition != at+1 || st.Position != at || !strings.Contains(st.Error, "Mystery") {
		t.Errorf("halted: %+v", st)
	}
}

// TestStalledOwnerCannotPark attacks I5 where a failure is recorded: the owner's epoch is gone by then.
func TestStalledOwnerCannotPark(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	opened(t, f, 107, 3)
	book := new(logbook)
	stalls, resumes := make(chan struct{}), make(chan struct{})
	first := true // touched by one engine's goroutine only
	// Both leases are so long that neither engine loses its own while it is held, and of the same length: an engine takes one
	// that is much longer than its own for none.
	cfg := f.config("stalled")
	cfg.Lease, cfg.Logger = time.Minute, book.logger()
	start(t, newEngine(t, cfg, readmodel.Balances().WithFault(func(projector.Event) error {
		if first {
			first = false
			close(stalls)
			<-resumes
		}
		return errors.New("too late")
	})))
	receive(t, stalls)
	f.exec(t, `update projections set lease_until = '-infinity' where id = 'balances'`)
	log := newGatedLog(f.log)
	cfg = f.config("next")
	cfg.Log, cfg.Lease = log, time.Minute
	next := newEngine(t, cfg)
	start(t, next)
	receive(t, log.held) // it owns the projection, and has not moved it
	close(resumes)
	eventually(t, "the stalled owner has seen that it is one no more", func() bool {
		return book.has("lease lost to another instance")
	})
	if st := status(t, newEngine(t, f.config("onlooker"))); st.Failures != 0 || st.Parked != 0 {
		t.Errorf("the stalled owner has recorded a failure: %+v", st)
	}
	close(log.gate)
	f.applied(t, next)
}

// TestReplayParks sees a replay park what the live generation has parked, and complete; and fail rather than take away
// what the live generation has.
func TestReplayParks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := newFault()
	cfg := f.config("one")
	cfg.Retry, cfg.ReplayBatch, cfg.ReadBatch = time.Hour, 4, 3
	e := newEngine(t, cfg, x.of(readmodel.Balances()))
	w := opened(t, f, 108, 4)
	start(t, e)
	f.applied(t, e)
	x.strike(w.ids[0], 0)
	at := w.deposit(t, w.ids[0], 3)
	f.parkedAt(t, e, at, "faulty")

	// The handler fails on the account's first event, too, which the live generation has.
	r := startReplay(t, e)
	eventually(t, "the replay has failed", func() bool { r, _ = e.Replay(t.Context(), "balances", r.ID); return r.State == "failed" })
	if r.Parked != 1 || !strings.Contains(r.Error, "faulty") || status(t, e).Generation != 1 {
		t.Errorf("failed: %+v", r)
	}
	f.parkedAt(t, e, at, "faulty")

	x.from.Store(at)
	r = completed(t, e, startReplay(t, e).ID)
	if st := status(t, e); r.Parked != 1 || st.Generation != r.Generation || st.Parked != 1 {
		t.Errorf("completed: %+v, %+v", r, st)
	}
	w.deposit(t, w.ids[0], 2)
	if got := f.parkedAt(t, e, at, "faulty"); got.Waiting != 5 {
		t.Errorf("parked in the new generation: %+v", got)
	}
	x.mend()
	r = completed(t, e, startReplay(t, e).ID)
	if st := f.applied(t, e); r.Parked != 0 || st.Parked != 0 {
		t.Errorf("healed: %+v, %+v", r, st)
	}
}
