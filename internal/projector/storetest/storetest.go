// Package storetest has the tests that read models pass wherever they are kept: in tables of PostgreSQL, or in a
// projector.Store.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/eventstore"
	"passbook/internal/projector"
)

// Added is the only event of the tests' log.
type Added struct{ N int64 }

// EventType implements projector.Content.
func (Added) EventType() string { return "Added" }

// refused is what an event is decoded as that no handler can apply.
type refused struct{}

// EventType implements projector.Content.
func (refused) EventType() string { return "Refused" }

// Home is where a read model is kept, for one test. The model is the sum of N by stream.
type Home struct {
	// Store is nil for tables.
	Store projector.Store
	// Define makes the projection "sums" in the Store, which may be one that wraps Home.Store. Handlers are added with Add.
	Define func(store projector.Store) *projector.Projection
	// Fold makes a fold that adds n to a stream. Not for tables.
	Fold func(stream uuid.UUID, n int64) any
	// Read returns the live model, and the position that it is at.
	Read func(ctx context.Context) (sums map[uuid.UUID]int64, position int64, err error)
	// Lose returns the home after its store was emptied, as by a restart. Nil where that cannot be.
	Lose func() Home
	// Other is another instance's home: itself unless each instance has a store of its own.
	Other func() Home
}

const (
	patience = time.Minute
	lease    = 600 * time.Millisecond
)

// Connect makes a pool whose connections report to a tracer, if it is not nil. It closes the pool when the test ends.
type Connect func(pgx.QueryTracer) *pgxpool.Pool

// Run runs the tests. database returns what connects to a migrated database that no other test uses.
func Run(t *testing.T, database func(*testing.T) Connect, open func(*testing.T, *pgxpool.Pool) Home) {
	t.Helper()
	for name, test := range map[string]func(*suite){
		"ExactlyOnce": (*suite).exactlyOnce, "Replay": (*suite).replay, "TwoInstances": (*suite).twoInstances,
		"Lost": (*suite).lost, "Fencing": (*suite).fencing, "Halts": (*suite).halts, "Truncated": (*suite).truncated,
		"Idle": (*suite).idle,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &suite{T: t, steps: new(steps)}
			connect := database(t)
			s.pool, s.traced = connect(nil), connect(s.steps)
			s.log = eventstore.New(s.pool)
			s.home = open(t, s.pool)
			for i := range s.streams {
				s.streams[i] = uuid.New()
			}
			test(s)
		})
	}
}

type suite struct {
	*testing.T
	pool    *pgxpool.Pool // the tests'
	traced  *pgxpool.Pool // the engines'
	log     *eventstore.Store
	home    Home
	steps   *steps
	streams [5]uuid.UUID
	head    int64
	version [5]int64
	refused atomic.Int64 // N of an event that no handler can apply, 0 when there is none
}

// steps counts what an engine does to PostgreSQL and to its store, and stops it at one of these steps.
type steps struct {
	left atomic.Int64
	stop atomic.Pointer[context.CancelFunc]

	checkpoints, flips atomic.Int64 // calls of a Store
}

func (s *steps) step() error {
	switch left := s.left.Add(-1); {
	case left == 0:
		(*s.stop.Load())()
		return context.Canceled
	case left < 0 && left > -1_000_000:
		return context.Canceled
	}
	return nil
}

// TraceQueryStart implements pgx.QueryTracer.
func (s *steps) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	_ = s.step()
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (s *steps) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// stepped is a Store with a step before and after each call.
type stepped struct {
	projector.Store
	steps *steps
}

func (s stepped) around(call func() error) error {
	if err := s.steps.step(); err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	return s.steps.step()
}

func (s stepped) Checkpoint(ctx context.Context, epoch, generation int64) (at projector.Checkpoint, err error) {
	s.steps.checkpoints.Add(1)
	err = s.around(func() error { at, err = s.Store.Checkpoint(ctx, epoch, generation); return err })
	return at, err
}

func (s stepped) Apply(ctx context.Context, epoch, generation int64, from, to projector.Checkpoint, fold any) error {
	return s.around(func() error { return s.Store.Apply(ctx, epoch, generation, from, to, fold) })
}

func (s stepped) Flip(ctx context.Context, epoch, generation int64, truncated bool) error {
	s.steps.flips.Add(1)
	return s.around(func() error { return s.Store.Flip(ctx, epoch, generation, truncated) })
}

func (s *suite) engine(instance string, home Home) *projector.Engine {
	store := home.Store
	if store != nil {
		store = stepped{store, s.steps}
	}
	sums := home.Define(store)
	projector.On(sums, func(any, projector.Event, refused) error { return errors.New("the sums are full") })
	e, err := projector.New(projector.Config{
		Pool: s.traced, Log: eventstore.New(s.traced), Instance: instance, Poll: 2 * time.Millisecond, BatchDelay: time.Millisecond,
		Lease: lease, Batch: 14, ReadBatch: 7, ReplayBatch: 14,
		Decode: func(_ string, _ int, payload []byte) (any, error) {
			var e Added
			err := json.Unmarshal(payload, &e)
			if e.N == s.refused.Load() {
				return refused{}, err
			}
			return e, err
		},
	}, sums)
	if err != nil {
		s.Fatal(err)
	}
	return e
}

// start runs an engine until stop is called, or until it comes to the given step; 0 is never.
func (s *suite) start(e *projector.Engine, step int64) (stop func(), stopped <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	s.steps.stop.Store(&cancel)
	if step == 0 {
		step = -1_000_000_000
	}
	s.steps.left.Store(step)
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	stop = func() { cancel(); <-done }
	s.Cleanup(stop)
	return stop, done
}

func (s *suite) add(events int) {
	var batch []eventstore.NewEvent
	for range events {
		i := (s.head + int64(len(batch))) % int64(len(s.streams))
		s.version[i]++
		batch = append(batch, eventstore.NewEvent{
			StreamID: s.streams[i], Version: s.version[i], EventID: uuid.New(), Type: "Added", SchemaVersion: 1,
			Payload: fmt.Appendf(nil, `{"N":%d}`, s.head+int64(len(batch))+1),
		})
	}
	head, err := s.log.Last(context.Background())
	if err == nil {
		_, err = s.log.Append(context.Background(), head, &eventstore.Batch{Events: batch})
	}
	if err != nil {
		s.Fatal(err)
	}
	s.head += int64(events)
}

// check asserts that the live model is the fold of the events up to its position, and returns that. The position of an
// event is its N, so that of the model tells what it should be.
func (s *suite) check(home Home) int64 {
	s.Helper()
	got, position, err := home.Read(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	want := make(map[uuid.UUID]int64)
	for n := int64(1); n <= position; n++ {
		want[s.streams[(n-1)%int64(len(s.streams))]] += n
	}
	if !maps.Equal(got, want) {
		s.Fatalf("at %d the model is %v, want %v", position, got, want)
	}
	return position
}

func (s *suite) eventually(what string, holds func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !holds(); s.pass(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			var row, replays string
			_ = s.pool.QueryRow(context.Background(), `select (select to_jsonb(p)::text from projections p),
coalesce((select jsonb_agg(r)::text from projection_replays r), '')`).Scan(&row, &replays)
			s.Fatalf("not within %s: %s\n%s\n%s", patience, what, row, replays)
		}
	}
}

// pass lets time pass.
func (s *suite) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.Context().Done():
	}
}

func (s *suite) one(sql string) (n int64) {
	s.Helper()
	if err := s.pool.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

const runningSQL = `select count(*) from projection_replays where state = 'running'`

// exactlyOnce stops engines at one step after another, also while they replay.
func (s *suite) exactlyOnce() {
	seen := int64(0)
	for step := int64(1); step <= 60; step++ {
		s.add(int(step%9) + 1)
		e := s.engine("one", s.home)
		s.steps.left.Store(-1_000_000_000)
		if step%3 == 0 {
			var running *projector.ReplayRunningError
			if _, err := e.StartReplay(s.Context(), "sums"); err != nil && !errors.As(err, &running) {
				s.Fatal(err)
			}
		}
		stop, stopped := s.start(e, step)
		select {
		case <-stopped:
		case <-time.After(patience):
			s.Fatalf("step %d never came", step)
		}
		stop()
		position := s.check(s.home)
		if position < seen {
			s.Fatalf("step %d: it went from %d back to %d", step, seen, position)
		}
		seen = position
	}
	stop, _ := s.start(s.engine("one", s.home), 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == s.head && s.one(runningSQL) == 0 })
	stop()
	if failed := s.one(`select count(*) from projection_replays where state <> 'completed'`); failed > 0 {
		s.Errorf("%d replays are not completed", failed)
	}
}

// replay reads all the time while the read model is rebuilt and the log grows.
func (s *suite) replay() {
	s.add(100)
	e := s.engine("one", s.home)
	s.start(e, 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == s.head })
	for range 3 {
		r, err := e.StartReplay(s.Context(), "sums")
		if err != nil {
			s.Fatal(err)
		}
		seen := s.head
		s.eventually("it is rebuilt", func() bool {
			s.add(3)
			position := s.check(s.home)
			if position < seen {
				s.Fatalf("it went from %d back to %d", seen, position)
			}
			seen = position
			r, err = e.Replay(s.Context(), "sums", r.ID)
			return err == nil && r.State == projector.ReplayCompleted
		})
		s.eventually("all is applied", func() bool { return s.check(s.home) == s.head })
		if st, err := e.Projection(s.Context(), "sums"); err != nil || st.Generation != r.Generation || st.State != projector.Running {
			s.Errorf("%+v, %v", st, err)
		}
	}
}

// twoInstances asks each instance of what the other one is to do too.
func (s *suite) twoInstances() {
	other := s.home.Other()
	one, two := s.engine("one", s.home), s.engine("two", other)
	s.start(one, 0)
	s.add(20)
	s.eventually("the first one applies", func() bool { return s.check(s.home) == s.head })
	s.start(two, 0)
	s.eventually("the second one reads the same", func() bool { return s.check(other) == s.head })

	if st, err := two.Pause(s.Context(), "sums"); err != nil || st.State != projector.Paused {
		s.Fatalf("%+v, %v", st, err)
	}
	if st, err := one.Projection(s.Context(), "sums"); err != nil || st.State != projector.Paused {
		s.Errorf("the other one: %+v, %v", st, err)
	}
	s.pass(lease) // both have looked at it by then
	paused := s.head
	s.add(20)
	s.pass(lease) // that nothing happens can be seen only so
	if a, b := s.check(s.home), s.check(other); a != paused || b != paused {
		s.Errorf("paused at %d, they have applied %d and %d", paused, a, b)
	}
	if _, err := one.Resume(s.Context(), "sums"); err != nil {
		s.Fatal(err)
	}
	s.eventually("both go on", func() bool { return s.check(s.home) == s.head && s.check(other) == s.head })
	r, err := two.StartReplay(s.Context(), "sums")
	if err != nil {
		s.Fatal(err)
	}
	s.eventually("it is rebuilt", func() bool {
		r, err = one.Replay(s.Context(), "sums", r.ID)
		return err == nil && r.State == projector.ReplayCompleted
	})
	s.add(20)
	s.eventually("both go on", func() bool { return s.check(s.home) == s.head && s.check(other) == s.head })
}

// lost empties the store under the checkpoint.
func (s *suite) lost() {
	if s.home.Lose == nil {
		s.Skip("a store that cannot be emptied by itself")
	}
	s.add(30)
	stop, _ := s.start(s.engine("one", s.home), 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == s.head })
	stop()
	s.home = s.home.Lose()
	s.start(s.engine("one", s.home), 0)
	s.eventually("all is applied again", func() bool { return s.check(s.home) == s.head })
}

// halts has a projection, and then a replay, meet an event that cannot be applied.
func (s *suite) halts() {
	if s.home.Store == nil {
		s.Skip("a stream of a read model in tables is parked")
	}
	s.add(8)
	other := s.home.Other()
	e := s.engine("one", s.home)
	s.start(e, 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == 8 })
	s.start(s.engine("two", other), 0)
	s.eventually("the second one reads the same", func() bool { return s.check(other) == 8 })
	s.refused.Store(18) // in the second piece of a batch
	s.add(12)
	s.eventually("it has halted", func() bool { return s.status(e).State == projector.Halted && s.check(s.home) == 17 })
	s.eventually("the second one is as far", func() bool { return s.check(other) == 17 })
	if st := s.status(e); st.Position != 17 || st.ErrorPosition != 18 || !strings.Contains(st.Error, "full") || st.Failures == 0 || st.Parked != 0 {
		s.Errorf("halted: %+v", st)
	}
	s.refused.Store(0)
	s.eventually("both go on", func() bool { return s.check(s.home) == 20 && s.check(other) == 20 })
	s.eventually("it says so", func() bool { st := s.status(e); return st.State == projector.Running && st.Error == "" })
	s.refused.Store(18)
	r := s.replayed(e)
	if st := s.status(e); r.State != projector.ReplayFailed || !strings.Contains(r.Error, "full") || st.Generation != 1 || st.State != projector.Running {
		s.Errorf("a replay: %+v, %+v", r, st)
	}
	s.add(5)
	s.eventually("the live one goes on", func() bool { return s.check(s.home) == 25 })
	if _, err := e.Rollback(s.Context(), "sums"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
		s.Errorf("rollback: %v", err)
	}
}

// truncated has the log lose its end on two instances, which a replay makes right.
func (s *suite) truncated() {
	other := s.home.Other()
	s.add(20)
	one, two := s.engine("one", s.home), s.engine("two", other)
	s.start(one, 0)
	s.eventually("all is applied", func() bool { return s.check(s.home) == 20 })
	s.start(two, 0)
	s.eventually("the second one reads the same", func() bool { return s.check(other) == 20 })
	if _, err := s.pool.Exec(s.Context(), `delete from events where position > 15`); err != nil {
		s.Fatal(err)
	}
	for i := range s.version { // each stream has lost one event
		s.version[i]--
	}
	s.head = 15
	s.add(3)
	s.eventually("it has halted", func() bool { return s.status(one).State == projector.Halted })
	if st := s.status(one); st.Position != 20 || st.ErrorPosition != 20 || !strings.Contains(st.Error, "server replay sums") {
		s.Errorf("halted: %+v", st)
	}
	if r := s.replayed(one); r.State != projector.ReplayCompleted {
		s.Errorf("the replay: %+v", r)
	}
	s.eventually("both have the new log", func() bool { return s.check(s.home) == 18 && s.check(other) == 18 })
	if _, err := one.Rollback(s.Context(), "sums"); !errors.Is(err, projector.ErrNoPreviousGeneration) {
		s.Errorf("rollback to what is not of this log: %v", err)
	}
	s.add(10)
	s.eventually("both go on", func() bool { return s.check(s.home) == 28 && s.check(other) == 28 })
}

func (s *suite) status(e *projector.Engine) projector.Status {
	s.Helper()
	st, err := e.Projection(context.Background(), "sums")
	if err != nil {
		s.Fatal(err)
	}
	return st
}

// replayed asks for a replay and returns how it ended.
func (s *suite) replayed(e *projector.Engine) projector.Replay {
	s.Helper()
	r, err := e.StartReplay(s.Context(), "sums")
	if err != nil {
		s.Fatal(err)
	}
	s.eventually("the replay is over", func() bool {
		r, err = e.Replay(s.Context(), "sums", r.ID)
		return err == nil && r.State != projector.ReplayRunning
	})
	return r
}
