package world

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/test/faults/internal/load"
	"passbook/test/faults/internal/oracle"
)

// healLimit is how long everything may take to work again after a fault is over.
const healLimit = 60 * time.Second

// Options configure a World.
type Options struct {
	// Server is the binary, Dir an empty directory, Name the database's name, Seed the random seed.
	Server, Dir, Name string
	Seed              uint64
	// Overlay, if set, changes the database once the instances run, as a superuser.
	Overlay func(ctx context.Context, conn *pgx.Conn) error
	// Via, if set, returns the address that an instance uses instead of the cluster's.
	Via func(instance, addr string) (string, error)
	// Load configures the traffic.
	Load load.Config
}

// World is a database, two instances of the service on it, and clients that never give up.
type World struct {
	Servers []*Server
	Load    *load.Load
	// Database is its name in the cluster.
	Database string

	opts       Options
	cluster    atomic.Pointer[Cluster]
	background sync.WaitGroup
	end        context.CancelFunc

	mu         sync.Mutex
	violations []oracle.Violation
}

// New makes the database and the instances, and opens the accounts. The caller closes the world.
func New(ctx context.Context, c *Cluster, o Options) (_ *World, err error) {
	w := &World{Database: o.Name, opts: o}
	w.cluster.Store(c)
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if err := c.Exec(ctx, "postgres", "create database "+o.Name+" owner passbook"); err != nil {
		return nil, err
	}
	if err := c.migrate(ctx, o.Server, o.Name); err != nil {
		return nil, err
	}
	conn, err := w.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := oracle.Watch(ctx, conn); err != nil {
		return nil, err
	}
	for _, name := range []string{"a", "b"} {
		if err := w.addServer(ctx, name, c.Addr()); err != nil {
			return nil, err
		}
	}
	if o.Overlay != nil { // not earlier: the instances do not start on a changed schema
		if err := o.Overlay(ctx, conn); err != nil {
			return nil, err
		}
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	w.end = end
	w.background.Go(func() { oracle.Tail(background, w.Dial, w.Report) })
	w.Load = load.New(o.Load, o.Seed, func() string { return w.Servers[rand.IntN(len(w.Servers))].Base() }, w.Report)
	return w, w.Load.Open(ctx)
}

func (w *World) addServer(ctx context.Context, name, addr string) error {
	if w.opts.Via != nil {
		var err error
		if addr, err = w.opts.Via(name, addr); err != nil {
			return err
		}
	}
	s, err := newServer(ctx, w.opts.Server, w.opts.Dir, w.opts.Name+"-"+name, w.Database, addr)
	if err != nil {
		return err
	}
	w.Servers = append(w.Servers, s)
	if err := s.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return s.Ready(ctx)
}

// migrate brings a database to the binary's schema.
func (c *Cluster) migrate(ctx context.Context, server, database string) error {
	cmd := command(ctx, server, "migrate")
	cmd.Env = []string{"DATABASE_URL=" + c.URL("passbook", database), "HOME=/nonexistent"}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w: %s", err, out)
	}
	return nil
}

// Cluster returns the cluster that holds the database now.
func (w *World) Cluster() *Cluster { return w.cluster.Load() }

// Move moves all connections to another cluster, which holds the same database.
func (w *World) Move(c *Cluster) error {
	w.cluster.Store(c)
	return w.Lead(c.Addr())
}

// Lead redirects the instances' connections to another address.
func (w *World) Lead(addr string) error {
	for _, s := range w.Servers {
		if err := s.Database.Lead(addr); err != nil {
			return err
		}
	}
	return nil
}

// Dial connects to the database as a superuser, bypassing the networks.
func (w *World) Dial(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, w.Cluster().URL("postgres", w.Database))
}

// With runs f on a superuser's connection.
func (w *World) With(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := w.Dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return f(conn)
}

// Report records a violation, once.
func (w *World) Report(v oracle.Violation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.violations, v) {
		return
	}
	w.violations = append(w.violations, v)
}

// Violations returns the violations recorded so far.
func (w *World) Violations() []oracle.Violation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]oracle.Violation(nil), w.violations...)
}

// Heal ends all disturbances, and waits until each instance accepts commands and every read model shows their effect. It
// reports what does not recover as a violation.
func (w *World) Heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	if !w.Cluster().Running() {
		if err := w.Cluster().Start(ctx); err != nil {
			return err
		}
	}
	if err := w.With(ctx, forgetPrepared); err != nil {
		return err
	}
	for _, s := range w.Servers {
		err := errors.Join(s.Database.Calm(ctx), s.Clients.Calm(ctx), s.Signal(syscall.SIGCONT), s.Start())
		if err != nil {
			return err
		}
	}
	for _, s := range w.Servers {
		if err := s.Ready(ctx); err != nil {
			w.Report(oracle.Violation{Invariant: "healing", Detail: err.Error()})
			return nil
		}
		if err := w.Load.Probe(ctx, s.Direct()); err != nil {
			w.Report(oracle.Violation{Invariant: "healing", Detail: fmt.Sprintf("%s: %v", s.Name, err)})
			return nil
		}
	}
	return w.awaitExpiries(ctx)
}

// overdueSQL reads one of the holds that should have expired by a time.
const overdueSQL = `select p.payload ->> 'hold_id' from events p
where p.type = 'HoldPlaced' and (p.payload ->> 'expires_at')::timestamptz < $1 and not exists (
    select from events e where e.type in ('HoldCaptured', 'HoldReleased', 'HoldExpired') and e.payload ->> 'hold_id' = p.payload ->> 'hold_id')
limit 1`

// awaitExpiries waits until no hold is open that should have expired before the call.
func (w *World) awaitExpiries(ctx context.Context) error {
	var overdue string
	err := w.With(ctx, func(conn *pgx.Conn) error {
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) { //nolint:forbidigo // the service has no signal for it
			err := conn.QueryRow(ctx, overdueSQL, began).Scan(&overdue)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			case err != nil:
				return err
			}
		}
	})
	if ctx.Err() != nil {
		w.Report(oracle.Violation{Invariant: "healing", Detail: "hold " + overdue + " has not expired"})
		err = nil
	}
	return err
}

// Check calls the oracle and records what it finds. It returns the length of the log.
func (w *World) Check(ctx context.Context) (int64, error) {
	commands := w.Load.Commands() // before the snapshot, so that the snapshot has them all
	var events int64
	err := w.With(ctx, func(conn *pgx.Conn) error {
		found, err := oracle.Check(ctx, conn, commands)
		for _, v := range found.Violations {
			w.Report(v)
		}
		events = found.Events
		return err
	})
	return events, err
}

// CheckLinear checks that what the clients observed is linearizable for each account. It returns the number of operations.
func (w *World) CheckLinear(ctx context.Context) (int, error) {
	steps := w.Load.Steps()
	err := w.With(ctx, func(conn *pgx.Conn) (err error) {
		steps, err = oracle.Complete(ctx, conn, steps)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, v := range oracle.CheckLinear(steps, 20*time.Second) {
		w.Report(v)
	}
	return len(steps), nil
}

// Close ends everything, and drops the database, unless there was a violation.
func (w *World) Close() {
	if w.end != nil {
		w.end()
	}
	if w.Load != nil {
		w.Load.Abandon()
	}
	for _, s := range w.Servers {
		s.Close()
	}
	w.background.Wait()
}

// forgetPrepared rolls back transactions that were prepared before a crash.
func forgetPrepared(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), healLimit)
	defer cancel()
	rows, _ := conn.Query(ctx, `select gid from pg_prepared_xacts where database = current_database()`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range all {
		if _, err := conn.Exec(ctx, "rollback prepared '"+gid+"'"); err != nil {
			return err
		}
	}
	return err
}
