package projector_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

func startReplay(t failer, e *projector.Engine) projector.Replay {
	t.Helper()
	r, err := e.StartReplay(context.Background(), "balances")
	if err != nil {
		t.Fatalf("start a replay: %v", err)
	}
	return r
}

// completed waits until a replay is over, and checks that every event was counted.
func completed(t failer, e *projector.Engine, id uuid.UUID) projector.Replay {
	t.Helper()
	var r projector.Replay
	eventually(t, "the replay is completed", func() bool {
		var err error
		r, err = e.Replay(context.Background(), "balances", id)
		return err == nil && r.State == "completed"
	})
	if r.Processed != r.Total || r.FinishedAt.Before(r.StartedAt) || r.ETASeconds != 0 || r.Error != "" {
		t.Fatalf("completed: %+v", r)
	}
	return r
}

// sameGenerations compares the rows of two generations, both of which have been applied up to the same position.
func (f *fixture) sameGenerations(t failer, a, b int64) {
	t.Helper()
	const columns = `account_id, owner, currency, balance, overdraft_limit, deposited, withdrawn, status, version, position,
opened_position, opened_at, updated_at, closed_at`
	one := `select ` + columns + ` from balances where generation = `
	var rows, differences int
	err := f.pool.QueryRow(context.Background(), fmt.Sprintf(`select (select count(*) from (%[1]s%[2]d) x),
(select count(*) from ((%[1]s%[2]d except %[1]s%[3]d) union all (%[1]s%[3]d except %[1]s%[2]d)) x)`, one, a, b)).Scan(&rows, &differences)
	if err != nil || rows == 0 || differences != 0 {
		t.Fatalf("generations %d and %d: %d rows, %d differ, %v", a, b, rows, differences, err)
	}
}

func (f *fixture) generations(t failer) (all []int64) {
	t.Helper()
	rows, _ := f.pool.Query(context.Background(), `select distinct generation from balances order by 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		t.Fatalf("generations: %v", err)
	}
	return all
}

func TestReplay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.ReplayBatch, cfg.ReadBatch = 7, 3
	e := newEngine(t, cfg)
	w := newWriter(f.log, 40, 6)
	w.append(t, 100)
	start(t, e)
	f.applied(t, e)
	r := startReplay(t, e)
	if r.State != "running" || r.Total != 100 || r.Generation != 2 || r.Projection != "balances" || !r.FinishedAt.IsZero() {
		t.Errorf("started: %+v", r)
	}
	r = completed(t, e, r.ID)
	if r.Total != 100 || r.Rate <= 0 {
		t.Errorf("completed: %+v", r)
	}
	f.sameGenerations(t, 1, 2)
	w.append(t, 10)
	st := f.applied(t, e)
	if st.Generation != 2 || st.Replay == nil || st.Replay.ID != r.ID {
		t.Errorf("after the replay: %+v", st)
	}
	var last bool
	err := f.pool.QueryRow(t.Context(), `select last_event_id = event_id from projections p join events using (position)`).Scan(&last)
	if err != nil || !last {
		t.Errorf("last_event_id is right: %v, %v", last, err)
	}
	if _, err := e.CancelReplay(t.Context(), "balances", r.ID); !errors.Is(err, projector.ErrReplayFinished) {
		t.Errorf("cancel of a finished replay: %v", err)
	}
	if _, err := e.Replay(t.Context(), "balances", uuid.New()); !errors.Is(err, projector.ErrUnknownReplay) {
		t.Errorf("an unknown replay: %v", err)
	}
	if _, err := e.CancelReplay(t.Context(), "balances", uuid.New()); !errors.Is(err, projector.ErrUnknownReplay) {
		t.Errorf("cancel of an unknown replay: %v", err)
	}
	_, err1 := e.StartReplay(t.Context(), "nothing")
	_, err2 := e.Replay(t.Context(), "nothing", r.ID)
	_, err3 := e.CancelReplay(t.Context(), "nothing", r.ID)
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, projector.ErrUnknownProjection) {
			t.Errorf("an unknown projection: %v", err)
		}
	}
}

func TestReplayOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	r := startReplay(t, e) // before the engine has ever run
	start(t, e)
	if r = completed(t, e, r.ID); r.Total != 0 {
		t.Errorf("completed: %+v", r)
	}
	newWriter(f.log, 41, 2).append(t, 5)
	if st := f.applied(t, e); st.Generation != 2 {
		t.Errorf("after the replay: %+v", st)
	}
}

// TestOneReplayAtATime starts replays at once: one is begun, and the others are told which.
func TestOneReplayAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one")) // not run, so that the replay goes on running
	status(t, e)
	const callers = 8
	var (
		all     sync.WaitGroup
		begun   atomic.Pointer[projector.Replay]
		refused [callers]error
	)
	for i := range callers {
		all.Go(func() {
			r, err := e.StartReplay(t.Context(), "balances")
			if err == nil && !begun.CompareAndSwap(nil, &r) {
				t.Error("two replays were begun")
			}
			refused[i] = err
		})
	}
	all.Wait()
	for _, err := range refused {
		var running *projector.ReplayRunningError
		if err != nil && (!errors.As(err, &running) || running.Replay.ID != begun.Load().ID) {
			t.Errorf("another replay: %v", err)
		}
	}
}

// TestConcurrentReplayStarts starts a replay while another that takes the same generation is being committed.
func TestConcurrentReplayStarts(t *testing.T) {
	t.Parallel()
	for state, generation := range map[string]int64{"running": 2, "completed": 3} {
		f := newFixture(t)
		e := newEngine(t, f.config("one"))
		status(t, e)
		tx, err := f.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := uuid.New()
		if _, err := tx.Exec(t.Context(), `insert into projection_replays (id, projection, version, generation, total, state)
values ($1, 'balances', 1, 2, 0, $2)`, other, state); err != nil {
			t.Fatal(err)
		}
		var r projector.Replay
		ended := make(chan error, 1)
		go func() {
			var err error
			r, err = e.StartReplay(t.Context(), "balances")
			ended <- err
		}()
		f.waits(t, "insert into projection_replays")
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = <-ended
		if running, ok := errors.AsType[*projector.ReplayRunningError](err); ok {
			r = running.Replay
		}
		if (r.ID == other) != (state == "running") || r.Generation != generation || r.State != "running" {
			t.Errorf("another one is %s: %+v, %v", state, r, err)
		}
	}
}

// TestReplayBesideReadersAndWriters attacks I6: while generation after generation is built and goes live, no reader
// sees an account missing, a position going back, or a row that is not some whole state of the account.
func TestReplayBesideReadersAndWriters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.Batch, cfg.ReplayBatch = 20, 50
	svc := query.New(f.pool, f.pool)
	cfg.Applied = func(string, int64) { svc.Applied() }
	e := newEngine(t, cfg)
	w := newWriter(f.log, 42, 20)
	w.append(t, 300)
	start(t, e)
	f.applied(t, e)

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
	for i := range 3 {
		others.Go(func() {
			var seen int64
			for n := i; ctx.Err() == nil; n++ {
				seen = w.look(t, svc, w.ids[n%len(w.ids)], seen)
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			page, _, err := svc.Accounts(t.Context(), query.ListFilter{Limit: 100}, query.Wait{})
			if err != nil || len(page.Accounts) != len(w.ids) {
				t.Errorf("a page has %d accounts, %v", len(page.Accounts), err)
				return
			}
		}
	})
	for generation := int64(2); generation <= 5; generation++ {
		r := startReplay(t, e)
		for {
			f.checkFold(t)
			if r, _ = e.Replay(t.Context(), "balances", r.ID); r.State != "running" {
				break
			}
		}
		if r = completed(t, e, r.ID); r.Generation != generation {
			t.Errorf("completed: %+v, want generation %d", r, generation)
		}
	}
	cancel()
	others.Wait()
	if st := f.applied(t, e); st.Generation != 5 {
		t.Errorf("after the replays: %+v", st)
	}
	if got := f.generations(t); len(got) != 2 || got[0] != 4 || got[1] != 5 {
		t.Errorf("rows of the generations %v are there, want the last two", got)
	}
}

// look reads an account and compares it with what the writer knows. It returns the position that was seen.
func (w *writer) look(t *testing.T, svc *query.Service, id uuid.UUID, seen int64) int64 {
	t.Helper()
	a, applied, err := svc.Account(t.Context(), id, query.Wait{})
	if err != nil {
		t.Errorf("account: %v", err)
		return seen
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	history := w.history[id]
	if applied < seen || a.Position > applied || a.Version < 1 || a.Version > int64(len(history)) {
		t.Errorf("position %d after %d, account %+v", applied, seen, a)
		return seen
	}
	at := history[a.Version-1]
	if at.state.Balance != a.Balance || at.state.Status.String() != a.Status || at.position != 0 && at.position != a.Position {
		t.Errorf("account %+v, want %+v", a, at)
	}
	if a.Version < int64(len(history)) {
		if next := history[a.Version].position; next != 0 && next <= applied {
			t.Errorf("position %d is applied, and account %s is not at %d", applied, id, next)
		}
	}
	return applied
}

// brake holds the flushes of the generations above 1, each from when it has asked until it is granted, and none any
// more once free is closed.
type brake struct{ asked, granted, free chan struct{} }

func slowly(p *projector.Projection) (*projector.Projection, *brake) {
	b := &brake{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	return p.WithFlush(func(ctx context.Context, _ pgx.Tx, generation int64, flush func() error) error {
		if generation > 1 {
			select {
			case b.asked <- struct{}{}:
				select {
				case <-b.granted:
				case <-b.free:
				case <-ctx.Done():
					return ctx.Err()
				}
			case <-b.free:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return flush()
	}), b
}

// grant lets the flush that has asked be done.
func grant(t *testing.T, b *brake) {
	t.Helper()
	select {
	case b.granted <- struct{}{}:
	case <-time.After(patience):
		t.Fatalf("not within %s: a flush takes its grant", patience)
	}
}

// TestReplayGoesOn attacks the crash safety of a replay: its engine is stopped in the middle of a chunk, and another
// one goes on from the last chunk that was written.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("first")
	cfg.ReplayBatch, cfg.Lease = 10, time.Minute
	p, brake := slowly(readmodel.Balances())
	first := newEngine(t, cfg, p)
	w := newWriter(f.log, 43, 6)
	w.append(t, 95)
	stop := start(t, first)
	f.applied(t, first)
	r := startReplay(t, first)
	for range 3 {
		receive(t, brake.asked)
		grant(t, brake)
	}
	receive(t, brake.asked) // in the fourth
	stop()
	if r, _ = first.Replay(t.Context(), "balances", r.ID); r.State != "running" || r.Processed != 30 || r.Total != 95 || r.ETASeconds <= 0 {
		t.Fatalf("stopped in the middle: %+v", r)
	}
	w.append(t, 20) // these come after the fixed head
	var chunks atomic.Int64
	cfg.Instance = "second"
	second := newEngine(t, cfg, readmodel.Balances().WithFlush(
		func(_ context.Context, _ pgx.Tx, generation int64, flush func() error) error {
			if generation == 2 {
				chunks.Add(1)
			}
			return flush()
		}))
	start(t, second)
	if r = completed(t, second, r.ID); r.Total != 95 {
		t.Errorf("completed: %+v", r)
	}
	if n := chunks.Load(); n < 7 || n > 10 {
		t.Errorf("%d chunks were folded for the 65 events and those after them", n)
	}
	f.applied(t, second)
}

// heldLog is the log, of which a replay reads the events from a position on only once they are freed.
type heldLog struct {
	*eventstore.Store
	batch int // Config.ReplayBatch, by which the reads of a replay are known
	from  atomic.Int64
	free  chan struct{}
}

func newHeldLog(s *eventstore.Store, batch int) *heldLog {
	l := &heldLog{Store: s, batch: batch, free: make(chan struct{})}
	l.from.Store(math.MaxInt64)
	return l
}

func (l *heldLog) ReadAfter(ctx context.Context, after int64, limit int) ([]eventstore.Event, error) {
	// A replay also reads the event at its checkpoint.
	if limit == l.batch+1 && after+2 >= l.from.Load() {
		select {
		case <-l.free:
		case <-ctx.Done():
		}
	}
	return l.Store.ReadAfter(ctx, after, limit)
}

// TestReplayCancelled sees the live rows untouched, and what was built removed by the next replay.
func TestReplayCancelled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("one")
	cfg.ReplayBatch, cfg.Lease = 2, time.Minute
	log := newHeldLog(f.log, cfg.ReplayBatch)
	log.from.Store(5) // or the third chunk might be written before the replay is cancelled
	cfg.Log = log
	p, brake := slowly(readmodel.Balances())
	e := newEngine(t, cfg, p)
	w := newWriter(f.log, 44, 6)
	w.append(t, 50)
	start(t, e)
	f.applied(t, e)
	r := startReplay(t, e)
	receive(t, brake.asked)
	grant(t, brake)
	eventually(t, "a chunk is written", func() bool {
		got, err := e.Replay(t.Context(), "balances", r.ID)
		return err == nil && got.Processed == 2
	})
	receive(t, brake.asked)
	cancelled := make(chan error, 1)
	go func() {
		_, err := e.CancelReplay(t.Context(), "balances", r.ID) // waits for the chunk
		cancelled <- err
	}()
	f.waits(t, "'cancelled'")
	grant(t, brake)
	if err := <-cancelled; err != nil {
		t.Fatal(err)
	}
	close(log.free)
	w.append(t, 10)
	if st := f.applied(t, e); st.Generation != 1 || st.Replay.State != "cancelled" || st.Replay.FinishedAt.IsZero() {
		t.Errorf("cancelled: %+v, %+v", st, st.Replay)
	}
	if got := f.generations(t); len(got) != 2 {
		t.Errorf("generations %v", got)
	}
	close(brake.free)
	if again := completed(t, e, startReplay(t, e).ID); again.Generation != 3 {
		t.Errorf("completed: %+v", again)
	}
	if got := f.generations(t); len(got) != 2 || got[0] != 1 || got[1] != 3 {
		t.Errorf("generations %v, want those of the cancelled replay removed", got)
	}
	f.applied(t, e)
}

// TestReplayThatFails sees a replay end at an event that it cannot fold; the live generation is halted there too.
func TestReplayThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	newWriter(f.log, 45, 3).append(t, 10)
	f.mystery(t)
	start(t, e)
	r := startReplay(t, e)
	eventually(t, "the replay has failed", func() bool { r, _ = e.Replay(t.Context(), "balances", r.ID); return r.State == "failed" })
	if r.Error == "" || r.FinishedAt.IsZero() || r.Processed > 10 {
		t.Errorf("failed: %+v", r)
	}
	if st := status(t, e); st.Generation != 1 {
		t.Errorf("a failed replay went live: %+v", st)
	}
	f.checkFold(t)
}

// TestCleanupLeavesLaterGenerations sees a clean-up delete the generation before the live one, and nothing of the live one, of
// that being built, or of one after it.
func TestCleanupLeavesLaterGenerations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	e := newEngine(t, f.config("one"))
	newWriter(f.log, 49, 3).append(t, 10)
	stop := start(t, e)
	f.applied(t, e)
	completed(t, e, startReplay(t, e).ID)
	stop()
	for _, generation := range []int{3, 4} {
		f.exec(t, `insert into balances select (jsonb_populate_record(b, jsonb_build_object('generation', $1::int))).*
from balances b where generation = 2`, generation)
	}
	startReplay(t, e) // of generation 3, which no instance builds
	if err := e.DeleteOld(t.Context(), "balances", f.epoch(t)+1); err == nil {
		t.Error("one that does not own the projection has deleted rows")
	}
	if got := f.generations(t); !slices.Equal(got, []int64{1, 2, 3, 4}) {
		t.Errorf("one that does not own the projection has left %v", got)
	}
	if err := e.DeleteOld(t.Context(), "balances", f.epoch(t)); err != nil {
		t.Fatal(err)
	}
	if got := f.generations(t); !slices.Equal(got, []int64{2, 3, 4}) {
		t.Errorf("left are %v, want the live one, that being built and the one after it", got)
	}
}
