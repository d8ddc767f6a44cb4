package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

const (
	soakAccounts = 1000
	// soakSamples is how many samples a soak takes; the first third is the warm-up.
	soakSamples = 60
	// soakReplays is how many replays a soak begins, at most one every soakRest.
	soakReplays = 20
	soakRest    = 5 * time.Second
)

// runSoak is bench soak: a server under load for a long time, watched for what grows.
func runSoak(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := options{self: self, pgBin: getenv("PG_BIN"), path: getenv("PATH"), clients: 16}
	flags := flag.NewFlagSet("bench soak", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.DurationVar(&o.duration, "duration", time.Hour, "how long, 30s at least")
	rate := flags.Float64("rate", 400, "deposits a second, and as many reads")
	flags.StringVar(&o.server, "server", filepath.Join(filepath.Dir(self), "server"), "the server's binary")
	flags.StringVar(&o.dir, "dir", "", "directory for the database; the system's temporary one when empty")
	flags.StringVar(&o.doc, "doc", "", "Markdown document to put the table into")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.duration < 30*time.Second {
		return errors.New("-duration must be 30s at least")
	}
	b := &bench{options: o, progress: newProgress(stderr)}
	b.current = "soak"
	if b.testbed, err = testbed.New(ctx, testbed.Options{Dir: o.dir, PGBin: o.pgBin, Server: o.server, Path: o.path}); err != nil {
		return err
	}
	err = b.soak(ctx, *rate, stdout)
	return errors.Join(err, b.testbed.Close())
}

func (b *bench) soak(ctx context.Context, rate float64, stdout io.Writer) error {
	at, err := b.open(ctx, "soak", soakAccounts)
	if err != nil {
		return err
	}
	w := &watch{site: at}
	group, running := errgroup.WithContext(ctx)
	for _, c := range []load.Config{
		{Mode: load.Visible, Conns: b.clients, Rate: rate, Duration: b.duration, Accounts: soakAccounts},
		{Mode: load.Balance, Conns: b.clients, Rate: rate, Duration: b.duration, Accounts: soakAccounts},
	} {
		group.Go(func() error { return w.load(running, c) })
	}
	group.Go(func() error { return w.replays(running) })
	group.Go(func() error { return w.samples(running) })
	if err := errors.Join(group.Wait(), w.verify(ctx), at.server.Stop()); err != nil {
		return err
	}
	text, grew := w.table(rate)
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	if b.doc != "" {
		if err := report.Put(b.doc, "soak", text); err != nil {
			return err
		}
	}
	if len(grew) > 0 {
		return fmt.Errorf("what should be flat has grown: %s", strings.Join(grew, ", "))
	}
	return nil
}

// watch is a server under load, and the observations of it.
type watch struct {
	*site
	series   [len(gauges)]report.Series
	requests [2]int64 // writes and reads
	replayed int
}

// load runs one load; every response must be as expected.
func (w *watch) load(ctx context.Context, c load.Config) error {
	r, err := w.b.generate(ctx, w.server.Addr, c)
	if err != nil {
		return err
	}
	if r.Errors > 0 {
		return fmt.Errorf("%d of %d requests failed: %s", r.Errors, r.Requests+r.Errors, r.FirstError)
	}
	if c.Mode == load.Balance {
		w.requests[1] = r.Requests
	} else {
		w.requests[0] = r.Requests
	}
	return nil
}

// replays replays balances repeatedly, with a pause in between.
func (w *watch) replays(ctx context.Context) error {
	tick := time.NewTicker(max(soakRest, w.b.duration/soakReplays))
	defer tick.Stop()
	for end := time.After(w.b.duration); ; {
		select {
		case <-tick.C:
			if _, err := w.server.Replay(ctx, replayTimeout); err != nil {
				return err
			}
			w.replayed++
		case <-end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// samples samples everything that could grow, at even intervals.
func (w *watch) samples(ctx context.Context) error {
	tick := time.NewTicker(w.b.duration / soakSamples)
	defer tick.Stop()
	for n := range soakSamples {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		s, err := w.look(ctx)
		if err != nil {
			return err
		}
		for i, g := range gauges {
			w.series[i] = append(w.series[i], g.value(s))
		}
		if n%(soakSamples/6) == 0 {
			w.b.say("%.0f events, %.0f MiB resident, %.0f goroutines, %d replays", s.events, s.rss, s.goroutines, w.replayed)
		}
	}
	return nil
}

// sample is the state of things at a moment. Sizes are in bytes, the server's memory is in MiB.
type sample struct {
	rss, files, goroutines, connections            float64
	events, eventBytes, statementBytes, keys       float64
	keyBytes, balanceBytes, totalBytes, otherBytes float64
}

const soakSizesSQL = `select (select count(*) from pg_stat_activity where datname = current_database())::float8,
    (select coalesce(max(position), 0) from events)::float8, (select sum(pg_total_relation_size(relid)) from pg_partition_tree('events'))::float8,
    pg_total_relation_size('transactions')::float8, (select count(*) from idempotency_keys)::float8,
    pg_total_relation_size('idempotency_keys')::float8, pg_total_relation_size('balances')::float8,
    pg_total_relation_size('totals')::float8,
    (pg_total_relation_size('projections') + pg_total_relation_size('projection_replays') + pg_total_relation_size('projection_failures'))::float8`

func (w *watch) look(ctx context.Context) (sample, error) {
	var s sample
	err := w.b.testbed.Scan(ctx, w.db, soakSizesSQL, &s.connections, &s.events, &s.eventBytes, &s.statementBytes, &s.keys, &s.keyBytes,
		&s.balanceBytes, &s.totalBytes, &s.otherBytes)
	if err != nil {
		return s, err
	}
	s.rss, s.files = w.server.ResidentMiB(), w.server.OpenFiles()
	s.goroutines, err = w.server.Metric(ctx, "go_goroutines")
	return s, err
}

// verify runs server verify.
func (w *watch) verify(ctx context.Context) error {
	verify := exec.CommandContext(ctx, w.b.server, "verify")
	verify.Env = []string{"DATABASE_URL=" + w.db.URL, "PATH=" + w.b.path}
	if out, err := verify.CombinedOutput(); err != nil {
		return fmt.Errorf("server verify: %w: %s", err, out)
	}
	return w.server.Call(ctx, http.MethodGet, "/readyz", "", http.StatusOK, nil)
}
