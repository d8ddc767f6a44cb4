package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/test/faults/internal/oracle"
	"passbook/test/faults/internal/world"
)

// waitLimit is how long to wait for a condition. It is long, since only a failing run waits for all of it.
const waitLimit = 60 * time.Second

// eventually waits until a condition holds.
func eventually(ctx context.Context, what string, holds func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		ok, err := holds()
		if ok {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not within %s: %s: %w", waitLimit, what, errors.Join(err, ctx.Err()))
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// call sends a request and reads the JSON of the response, whatever its status, unless into is nil.
func call(ctx context.Context, method, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || into == nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// unappliable makes balances refuse the events of one account: the account is parked and listed, and everything else
// continues. After the cause is removed and a retry is requested, no event is missing.
func unappliable(ctx context.Context, w *world.World, rng *rand.Rand) error {
	base := some(rng, w).Direct()
	err := w.With(ctx, func(conn *pgx.Conn) error {
		account := w.Load.Unread()
		if err := poison(ctx, conn, account); err != nil {
			return err
		}
		var failures struct {
			Failures []struct {
				Position  int64  `json:"position"`
				AccountID string `json:"account_id"`
				Parked    bool   `json:"parked"`
			} `json:"failures"`
		}
		parked := eventually(ctx, "the account is parked and listed", func() (bool, error) {
			err := call(ctx, "GET", base+"/projections/balances/failures", &failures)
			return err == nil && len(failures.Failures) == 1 && failures.Failures[0].Parked && failures.Failures[0].AccountID == account, err
		})
		if parked != nil {
			w.Report(oracle.Violation{Invariant: "I7", Detail: parked.Error()})
		} else if err := w.Load.Probe(ctx, base); err != nil {
			w.Report(oracle.Violation{Invariant: "I7", Detail: "other accounts do not continue while one is parked: " + err.Error()})
		}
		if _, err := w.Check(ctx); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `alter table balances drop constraint faults_poison`)
		if err != nil || parked != nil {
			return err
		}
		return call(ctx, "POST", fmt.Sprintf("%s/projections/balances/failures/%d/retry", base, failures.Failures[0].Position), nil)
	})
	if err != nil {
		return err
	}
	healed := eventually(ctx, "no account is parked any more", func() (bool, error) {
		var st struct {
			Parked int    `json:"parked"`
			State  string `json:"state"`
		}
		err := call(ctx, "GET", base+"/projections/balances", &st)
		return err == nil && st.Parked == 0 && st.State == "running", err
	})
	if healed != nil {
		w.Report(oracle.Violation{Invariant: "I7", Detail: healed.Error()})
	}
	return nil
}

func poison(ctx context.Context, conn *pgx.Conn, account string) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`alter table balances add constraint faults_poison check (account_id <> '%s') not valid`, account))
	return err
}

// fullDisk puts the partition that the log ends in on a small disk and fills that up until nothing can be appended.
func fullDisk(ctx context.Context, w *world.World, _ *rand.Rand) (err error) {
	if os.Geteuid() != 0 {
		return skipped("mounting a small disk needs root")
	}
	c := w.Cluster()
	dir, err := c.Programs.Dir(filepath.Dir(c.Data), "small-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	if err != nil {
		return err
	}
	return w.With(ctx, func(conn *pgx.Conn) error {
		var size int64
		if err := conn.QueryRow(ctx, `select pg_relation_size('events_1')`).Scan(&size); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size+size/4+16<<20)); err != nil {
			return skipped("mounting a small disk is refused: " + err.Error())
		}
		defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
		if err := os.Chown(dir, c.Programs.UID, c.Programs.GID); err != nil {
			return err
		}
		for _, sql := range []string{"create tablespace faults_small location '" + dir + "'", "alter table events_1 set tablespace faults_small"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if err := fillUp(ctx, w, filepath.Join(dir, "ballast")); err != nil {
			return err
		}
		for _, sql := range []string{"alter table events_1 set tablespace pg_default", "drop tablespace faults_small"} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// fillUp fills a disk, waits until no command is acknowledged any more, and frees it.
func fillUp(ctx context.Context, w *world.World, path string) error {
	ballast, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = ballast.Close() }()
	for block := make([]byte, 4096); err == nil; {
		_, err = ballast.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	last, since := w.Load.Acknowledged(), time.Now()
	err = eventually(ctx, "a full disk stops appends", func() (bool, error) {
		if n := w.Load.Acknowledged(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second, nil
	})
	return errors.Join(err, os.Remove(path))
}

// wrongClock sets the database's clock an hour ahead, kills the owner of the projections, whose leases then end in an hour,
// and corrects the clock.
func wrongClock(ctx context.Context, w *world.World, _ *rand.Rand) error {
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(found) == 0 {
		return skipped("libfaketime is not installed")
	}
	c := w.Cluster()
	restart := func(env ...string) error {
		if err := c.Stop(syscall.SIGINT); err != nil {
			return err
		}
		c.Env = env
		return c.Start(ctx)
	}
	if err := restart("LD_PRELOAD="+found[0], "FAKETIME=+3600s", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"); err != nil {
		return err
	}
	err := w.With(ctx, func(conn *pgx.Conn) error {
		var now time.Time
		err := conn.QueryRow(ctx, `select clock_timestamp()`).Scan(&now)
		if err == nil && time.Until(now) < 50*time.Minute {
			return skipped("libfaketime does not change this PostgreSQL's clock")
		}
		return err
	})
	if err != nil {
		return errors.Join(err, restart())
	}
	if err := w.Load.Probe(ctx, w.Servers[0].Direct()); err != nil {
		w.Report(oracle.Violation{Invariant: "healing", Detail: "with a clock an hour ahead: " + err.Error()})
	}
	s, _, err := owner(ctx, w)
	if err != nil {
		return errors.Join(err, restart())
	}
	return errors.Join(s.Stop(syscall.SIGKILL), restart())
}

// pgbouncer puts PgBouncer in transaction mode between the instances and the database, with the documented settings.
func pgbouncer(ctx context.Context, w *world.World, rng *rand.Rand) error {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; exec.Command(program, "--version").Run() != nil { //nolint:noctx // at once
			return skipped("PgBouncer is not installed")
		}
	}
	c := w.Cluster()
	b, err := world.NewBouncer(ctx, c, program)
	if err != nil {
		return err
	}
	defer b.Close()
	restart := func(parameters, addr string) error {
		for _, s := range w.Servers {
			s.Parameters(parameters)
			if err := errors.Join(s.Stop(syscall.SIGTERM), s.Database.Lead(addr), s.Start()); err != nil {
				return err
			}
		}
		return nil
	}
	// Statements are described, not prepared: prepared ones would belong to a session.
	if err := restart("&default_query_exec_mode=cache_describe", b.Addr); err != nil {
		return err
	}
	for _, s := range w.Servers {
		ctx, cancel := context.WithTimeout(ctx, waitLimit)
		err := s.Ready(ctx)
		if err == nil {
			err = w.Load.Probe(ctx, s.Direct())
		}
		cancel()
		if err != nil {
			w.Report(oracle.Violation{Invariant: "healing", Detail: "behind PgBouncer: " + err.Error()})
		}
	}
	err = errors.Join(killServer(ctx, w, rng), terminateBackends(ctx, w, rng))
	return errors.Join(err, restart("", c.Addr()))
}

// dumpAndRestore moves the database to a fresh cluster with pg_dump and pg_restore, and the service continues there.
func dumpAndRestore(ctx context.Context, w *world.World, _ *rand.Rand) error {
	old := w.Cluster()
	unused, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_ = unused.Close()
	if err := w.Lead(unused.Addr().String()); err != nil { // from now on no instance can write
		return err
	}
	if err := old.Exec(ctx, "postgres", `select pg_terminate_backend(pid) from pg_stat_activity where usename = 'passbook'`); err != nil {
		return err
	}
	dir, err := freshDir(filepath.Dir(old.Data))
	if err != nil {
		return err
	}
	fresh, err := world.NewCluster(ctx, old.Programs, dir)
	if err != nil {
		return err
	}
	if err := fresh.Exec(ctx, "postgres", "create database "+w.Database+" owner passbook"); err != nil {
		return err
	}
	file := filepath.Join(fresh.Data, "dump")
	if err := old.Programs.Run(ctx, fresh.Data, "pg_dump", "-Fc", "-f", file, old.URL("postgres", w.Database)); err != nil {
		return err
	}
	if err := old.Programs.Run(ctx, fresh.Data, "pg_restore", "-d", fresh.URL("postgres", w.Database), file); err != nil {
		return err
	}
	return errors.Join(w.Move(fresh), old.Stop(syscall.SIGINT))
}

// promoteStandby kills a primary under load and continues with its synchronous standby.
func promoteStandby(ctx context.Context, w *world.World, rng *rand.Rand) error {
	primary := w.Cluster()
	dir, err := freshDir(filepath.Dir(primary.Data))
	if err != nil {
		return err
	}
	data, err := primary.Programs.Dir(dir, "data")
	if err != nil {
		return err
	}
	err = primary.Programs.Run(ctx, data, "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", primary.URL("postgres", "postgres"))
	if err != nil {
		return err
	}
	standby, err := world.Adopt(ctx, primary.Programs, dir)
	if err != nil {
		return err
	}
	if err := errors.Join(primary.Exec(ctx, "postgres", `alter system set synchronous_standby_names = '*'`),
		primary.Exec(ctx, "postgres", `select pg_reload_conf()`)); err != nil {
		return err
	}
	err = eventually(ctx, "the standby is synchronous", func() (ok bool, err error) {
		err = w.With(ctx, func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `select exists (select from pg_stat_replication where sync_state = 'sync')`).Scan(&ok)
		})
		return ok, err
	})
	if err != nil {
		return err
	}
	pause(ctx, between(rng, 500*time.Millisecond, 2*time.Second))
	if err := primary.Stop(syscall.SIGQUIT); err != nil {
		return err
	}
	return errors.Join(standby.Exec(ctx, "postgres", `select pg_promote()`), w.Move(standby))
}

// freshDir makes a new directory that other users can pass through.
func freshDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(filepath.Dir(parent), "cluster-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}
