package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"passbook/test/faults/internal/world"
)

// fault is a temporary failure. It is over when do returns, or Heal ends it.
type fault struct {
	name string
	// alone says that it cannot be combined with others, because it replaces or reconfigures the database.
	alone bool
	// packages says that it needs more packages than PostgreSQL.
	packages bool
	do       func(ctx context.Context, w *world.World, rng *rand.Rand) error
}

// faults are all faults. One that this machine does not support fails with a skipped error.
var faults = []fault{
	{name: "kill-server", do: killServer},
	{name: "crash-postgres", do: crashPostgres},
	{name: "terminate-backends", do: terminateBackends},
	{name: "cut-database", do: disturbDatabase("reset_peer", "downstream", nil)},
	{name: "delay-database", do: disturbDatabase("latency", "upstream", map[string]any{"latency": 80, "jitter": 80})},
	{name: "truncate-database", do: disturbDatabase("limit_data", "downstream", map[string]any{"bytes": 700})},
	{name: "lose-answers-of-commits", do: disturbDatabase("timeout", "downstream", map[string]any{"timeout": 150})},
	{name: "cut-clients", do: disturbClients("reset_peer", "downstream", nil)},
	{name: "delay-clients", do: disturbClients("latency", "downstream", map[string]any{"latency": 100, "jitter": 100})},
	{name: "truncate-clients", do: disturbClients("limit_data", "downstream", map[string]any{"bytes": 350})},
	{name: "freeze-owner", do: freezeOwner},
	{name: "hold-append-lock", do: holdAppendLock},
	{name: "idle-in-transaction", do: idleInTransaction},
	{name: "prepared-transaction", do: preparedTransaction},
	{name: "replay", do: replay},
	{name: "event-that-cannot-be-applied", alone: true, do: unappliable},
	{name: "full-disk", alone: true, do: fullDisk},
	{name: "clock-an-hour-off", alone: true, packages: true, do: wrongClock},
	{name: "pgbouncer", alone: true, packages: true, do: pgbouncer},
	{name: "dump-and-restore", alone: true, do: dumpAndRestore},
	{name: "promote-standby", alone: true, do: promoteStandby},
}

// skipped is the error of a fault that this machine does not support.
type skipped string

func (s skipped) Error() string { return string(s) }

func some(rng *rand.Rand, w *world.World) *world.Server { return w.Servers[rng.IntN(len(w.Servers))] }

// between returns a random duration.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func killServer(ctx context.Context, w *world.World, rng *rand.Rand) error {
	for range 1 + rng.IntN(3) {
		s := some(rng, w)
		if err := s.Stop(syscall.SIGKILL); err != nil {
			return err
		}
		pause(ctx, between(rng, 0, 300*time.Millisecond))
		if err := s.Start(); err != nil {
			return err
		}
		pause(ctx, between(rng, 200*time.Millisecond, time.Second))
	}
	return nil
}

func crashPostgres(ctx context.Context, w *world.World, rng *rand.Rand) error {
	if err := w.Cluster().Stop(syscall.SIGQUIT); err != nil {
		return err
	}
	pause(ctx, between(rng, 0, time.Second))
	return w.Cluster().Start(ctx)
}

// terminateBackends ends random sessions of the service, whatever they are doing.
func terminateBackends(ctx context.Context, w *world.World, rng *rand.Rand) error {
	const one = `select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = 'passbook' order by random() limit 1`
	for end := time.Now().Add(between(rng, time.Second, 2*time.Second)); time.Now().Before(end) && ctx.Err() == nil; {
		// The database may be unavailable because of a simultaneous fault.
		_ = w.With(ctx, func(conn *pgx.Conn) error {
			for range 10 {
				if _, err := conn.Exec(ctx, one); err != nil {
					return err
				}
				pause(ctx, between(rng, time.Millisecond, 40*time.Millisecond))
			}
			return nil
		})
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

func disturbDatabase(kind, stream string, attributes map[string]any) func(context.Context, *world.World, *rand.Rand) error {
	return disturb(kind, stream, attributes, func(s *world.Server) *world.Network { return s.Database })
}

func disturbClients(kind, stream string, attributes map[string]any) func(context.Context, *world.World, *rand.Rand) error {
	return disturb(kind, stream, attributes, func(s *world.Server) *world.Network { return s.Clients })
}

// disturb applies a toxic to some of the connections of one instance, or of both, for a while.
func disturb(kind, stream string, attributes map[string]any, of func(*world.Server) *world.Network,
) func(context.Context, *world.World, *rand.Rand) error {
	return func(ctx context.Context, w *world.World, rng *rand.Rand) error {
		t := world.Toxic{
			Name: fmt.Sprintf("%s-%d", kind, rng.Uint32()), Type: kind, Stream: stream,
			Toxicity: 0.3 + 0.7*rng.Float32(), Attributes: map[string]any{},
		}
		for name, value := range attributes {
			// Anything from nothing to twice as much.
			t.Attributes[name] = 1 + rng.IntN(2*value.(int))
		}
		servers := w.Servers
		if rng.IntN(2) == 0 {
			servers = []*world.Server{some(rng, w)}
		}
		for _, s := range servers {
			if err := of(s).Disturb(t); err != nil {
				return err
			}
		}
		pause(ctx, between(rng, time.Second, 3*time.Second))
		for _, s := range servers {
			if err := of(s).Calm(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// owner returns the instance that owns balances.
func owner(ctx context.Context, w *world.World) (*world.Server, int64, error) {
	var (
		app   string
		epoch int64
	)
	err := w.With(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select o.app, o.epoch from faults.owners o join projections p on p.id = o.projection and p.epoch = o.epoch
where p.id = 'balances'`).Scan(&app, &epoch)
	})
	for _, s := range w.Servers {
		if err == nil && s.Name == app {
			return s, epoch, nil
		}
	}
	return nil, 0, fmt.Errorf("no instance owns the balances: %q: %w", app, err)
}

// freezeOwner pauses the process that owns the projections for longer than its lease, and resumes it.
func freezeOwner(ctx context.Context, w *world.World, rng *rand.Rand) error {
	s, _, err := owner(ctx, w)
	if err != nil {
		s = some(rng, w) // the database is unavailable because of another fault
	}
	if err := s.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, between(rng, 3500*time.Millisecond, 6*time.Second))
	return s.Signal(syscall.SIGCONT)
}

var lockPattern = regexp.MustCompile(`pg_advisory_xact_lock\((\d+)\)`)

// source returns the text of the append function.
func source(ctx context.Context, conn *pgx.Conn) (text string, err error) {
	err = conn.QueryRow(ctx, `select pg_get_functiondef($1::text::regproc)`, appendFunction).Scan(&text)
	return text, err
}

// holdAppendLock blocks all appends.
func holdAppendLock(ctx context.Context, w *world.World, rng *rand.Rand) error {
	return quietly(ctx, w, func(conn *pgx.Conn) error {
		text, err := source(ctx, conn)
		if err != nil {
			return err
		}
		key := lockPattern.FindStringSubmatch(text)
		if key == nil {
			return errors.New(appendFunction + " takes no lock that this fault knows")
		}
		if _, err := conn.Exec(ctx, "select pg_advisory_lock("+key[1]+")"); err != nil {
			return err
		}
		pause(ctx, between(rng, time.Second, 7*time.Second)) // lock_timeout is 5 s
		return nil
	})
}

// idleInTransaction opens a session that takes a lock which every append needs, and then stays silent.
func idleInTransaction(ctx context.Context, w *world.World, rng *rand.Rand) error {
	return quietly(ctx, w, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `begin; select from projections for update; lock table idempotency_keys in share mode; select pg_current_xact_id()`)
		if err == nil {
			pause(ctx, between(rng, time.Second, 4*time.Second))
		}
		return err
	})
}

// preparedTransaction leaves a transaction without a session, which holds its locks and the horizon of the whole cluster.
func preparedTransaction(ctx context.Context, w *world.World, rng *rand.Rand) error {
	return quietly(ctx, w, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `begin; select from projections where id = 'balances' for update; select pg_current_xact_id(); prepare transaction 'faults'`)
		if err != nil {
			return err
		}
		pause(ctx, between(rng, time.Second, 4*time.Second))
		_, err = conn.Exec(ctx, `rollback prepared 'faults'`)
		return err
	})
}

// quietly ignores that a simultaneous fault may cut the connection.
func quietly(ctx context.Context, w *world.World, f func(*pgx.Conn) error) error {
	var refused *pgconn.PgError
	if err := w.With(ctx, f); errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57") {
		return err
	}
	return nil
}

// replay rebuilds or rolls back every read model under load.
func replay(ctx context.Context, w *world.World, rng *rand.Rand) error {
	for _, id := range []string{"balances", "transactions", "holds", "totals"} {
		verb := "replay"
		if rng.IntN(4) == 0 {
			verb = "rollback"
		}
		_ = call(ctx, "POST", some(rng, w).Direct()+"/projections/"+id+"/"+verb, nil) // one may be running, or there may be nothing to roll back to
	}
	pause(ctx, between(rng, 300*time.Millisecond, 2*time.Second))
	return nil
}
