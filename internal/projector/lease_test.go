package projector_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/readmodel"
)

func (f *fixture) epoch(t failer) (epoch int64) {
	t.Helper()
	if err := f.pool.QueryRow(context.Background(), `select epoch from projections`).Scan(&epoch); err != nil {
		t.Fatalf("epoch: %v", err)
	}
	return epoch
}

// TestOneOwner attacks I5: of several engines one applies, and every batch is applied once.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var (
		mu       sync.Mutex
		appliers = make(map[string]int64)
		engines  []*projector.Engine
	)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		cfg := f.config(name)
		cfg.Batch, cfg.Lease = 5, time.Minute // so that a busy machine does not make it change hands
		cfg.Applied = func(_ string, position int64) {
			mu.Lock()
			defer mu.Unlock()
			appliers[name] = position
		}
		engines = append(engines, newEngine(t, cfg))
		start(t, engines[len(engines)-1])
	}
	w := newWriter(f.log, 20, 5)
	for range 40 {
		w.append(t, 5)
		f.checkFold(t)
	}
	st := f.applied(t, engines[0])
	mu.Lock()
	defer mu.Unlock()
	if len(appliers) != 1 || appliers[st.Owner] != 200 {
		t.Errorf("owner %q, and applied by %v", st.Owner, appliers)
	}
	if epoch := f.epoch(t); epoch != 1 {
		t.Errorf("the epoch is %d: the lease changed hands", epoch)
	}
	for i, name := range names {
		if st := status(t, engines[i]); (st.Rate > 0) != (st.Owner == name) {
			t.Errorf("%s says rate %v, and the owner is %s", name, st.Rate, st.Owner)
		}
	}
}

// TestOwnerDies sees another engine take over from one that is gone without a word, and not before its lease is over.
func TestOwnerDies(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("dying")
	cfg.Pool = newPool(t, f.url)
	dying := newEngine(t, cfg)
	w := newWriter(f.log, 21, 5)
	w.append(t, 10)
	start(t, dying)
	f.applied(t, dying)
	next := newEngine(t, f.config("next"))
	start(t, next)
	var until, taken time.Time // both by the database's clock
	cfg.Pool.Close()           // from here on it can say nothing more
	f.exec(t, `create table leases as select lease_until from projections where owner = 'dying'`)
	w.append(t, 10)
	f.applied(t, next)
	if st := status(t, next); st.Owner != "next" || f.epoch(t) != 2 {
		t.Errorf("taken over by %q in epoch %d", st.Owner, f.epoch(t))
	}
	err := f.pool.QueryRow(t.Context(), `select l.lease_until, p.updated_at from leases l, projections p`).Scan(&until, &taken)
	if err != nil || taken.Before(until) {
		t.Errorf("taken over at %v, with a lease until %v: %v", taken, until, err)
	}
}

// TestStalledOwnerIsFenced attacks I5: an owner that stalls between reading and writing finds its epoch gone, with
// everything else as it was.
func TestStalledOwnerIsFenced(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 22, 5).append(t, 20)
	book := new(logbook)
	stalledLog, nextLog := newGatedLog(f.log), newGatedLog(f.log)
	// Both leases are so long that neither engine loses its own while it is held, and of the same length: an engine takes one
	// that is much longer than its own for none.
	cfg := f.config("stalled")
	cfg.Log, cfg.Lease, cfg.Logger = stalledLog, time.Minute, book.logger()
	start(t, newEngine(t, cfg))
	receive(t, stalledLog.held)
	f.exec(t, `update projections set lease_until = '-infinity' where id = 'balances'`)

	cfg = f.config("next")
	cfg.Log, cfg.Lease = nextLog, time.Minute
	next := newEngine(t, cfg)
	start(t, next)
	receive(t, nextLog.held) // it owns the projection, and has not moved it

	close(stalledLog.gate)
	eventually(t, "the stalled owner has seen that it is one no more", func() bool {
		return book.has("lease lost to another instance")
	})
	var rows, position int64
	err := f.pool.QueryRow(t.Context(), `select (select count(*) from balances), position from projections where owner = 'next'`).
		Scan(&rows, &position)
	if err != nil || rows != 0 || position != 0 {
		t.Errorf("the stalled owner wrote %d rows and moved the checkpoint to %d, %v", rows, position, err)
	}
	close(nextLog.gate)
	f.applied(t, next)
}

// TestOwnerStalledInItsTransaction sees that the lock of an owner which stalls after its first statement does not
// keep the next one out, and that its commit fails.
func TestOwnerStalledInItsTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 23, 5).append(t, 20)
	stalls, resumes := make(chan struct{}), make(chan struct{})
	first := true // touched by one engine's goroutine only
	cfg := f.config("stalled")
	cfg.Pool, cfg.Lease = newPool(t, f.url), 2*time.Second // for so long may a transaction be idle, too
	stalled := newEngine(t, cfg, readmodel.Balances().WithFlush(
		func(_ context.Context, _ pgx.Tx, _ int64, flush func() error) error {
			err := flush()
			if first {
				first = false
				close(stalls)
				<-resumes
			}
			return err
		}))
	start(t, stalled)
	resume := sync.OnceFunc(func() { close(resumes) })
	t.Cleanup(resume)
	receive(t, stalls)
	before := f.epoch(t) // a busy machine may have lost and taken its short lease again before it got here
	cfg = f.config("next")
	// A busy machine must not hand it back, and the stalled owner takes a lease for none that is more than four times its own.
	cfg.Lease = 8 * time.Second
	next := newEngine(t, cfg)
	start(t, next)
	if st := f.applied(t, next); st.Owner != "next" || st.Position != 20 {
		t.Errorf("taken over: %+v", st)
	}
	resume()
	newWriter(f.log, 24, 5).append(t, 20)
	f.applied(t, next)
	if epoch := f.epoch(t); epoch != before+1 {
		t.Errorf("the epoch is %d, and was %d", epoch, before)
	}
}

// TestStatusDoesNotWait asks how a projection stands while its owner is in the middle of a batch.
func TestStatusDoesNotWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	newWriter(f.log, 27, 5).append(t, 20)
	holds, resumes := make(chan struct{}, 100), make(chan struct{})
	cfg := f.config("one")
	cfg.Lease = time.Hour
	e := newEngine(t, cfg, readmodel.Balances().WithFlush(
		func(_ context.Context, _ pgx.Tx, _ int64, flush func() error) error {
			holds <- struct{}{}
			<-resumes
			return flush()
		}))
	start(t, e)
	resume := sync.OnceFunc(func() { close(resumes) })
	t.Cleanup(resume)
	receive(t, holds)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if st, err := e.Projection(ctx, "balances"); err != nil || st.Position != 0 || st.Owner != "one" {
		t.Errorf("in the middle of a batch: %+v, %v", st, err)
	}
	if r, err := e.StartReplay(ctx, "balances"); err != nil || r.Total != 20 {
		t.Errorf("a replay asked for in the middle of a batch: %+v, %v", r, err)
	}
	resume()
	f.applied(t, e)
}

// TestRestartUnderTheSameName sees an engine that comes back take its lease over at once.
func TestRestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	cfg := f.config("same")
	cfg.Pool, cfg.Lease = newPool(t, f.url, postgres.WithMaxConns(4)), time.Hour
	w := newWriter(f.log, 25, 5)
	w.append(t, 10)
	e := newEngine(t, cfg)
	stop := start(t, e)
	f.applied(t, e)
	cfg.Pool.Close()
	stop()
	w.append(t, 10)
	cfg.Pool = f.pool
	e = newEngine(t, cfg)
	start(t, e)
	if st := f.applied(t, e); st.Position != 20 || f.epoch(t) != 2 {
		t.Errorf("after the restart: %+v, epoch %d", st, f.epoch(t))
	}
}

// TestLeaseOfAnotherClock leaves a lease that ends an hour from now, as a database does whose clock is set back, or
// that is promoted in place of one whose clock was ahead: it is not waited for.
func TestLeaseOfAnotherClock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(t, `insert into projections (id, version, generation, epoch, owner, lease_until)
values ('balances', 1, 1, 7, 'gone', clock_timestamp() + interval '1 hour')`)
	newWriter(f.log, 126, 3).append(t, 10)
	e := newEngine(t, f.config("one"))
	start(t, e)
	if st := f.applied(t, e); st.Owner != "one" {
		t.Errorf("owned by %q", st.Owner)
	}
}
