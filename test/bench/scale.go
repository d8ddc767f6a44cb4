package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

const (
	// perAccount is how many events each account has, at every size of the log.
	perAccount = 100
	// smallLog is the size of the log that the others are compared with, unless -events names several.
	smallLog = 1_000_000
	// reads is how many times each read is made, one after another, each of a different account and position.
	reads = 300
	// workingSet is how many accounts the deposits go to.
	workingSet = 1000
)

// scaleOptions are the command line of bench scale.
type scaleOptions struct {
	options
	sizes       []int // of the logs, in events; the first is the one that the others are compared with
	keep, phase string
	replayFor   time.Duration
}

// runScale is bench scale: it makes the same requests to logs of several sizes.
func runScale(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	o, err := parseScale(args, getenv, stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o.options, progress: newProgress(stderr)}
	if b.testbed, err = testbed.New(ctx, testbed.Options{Dir: o.dir, Keep: o.keep, PGBin: o.pgBin, Server: o.server, Path: o.path}); err != nil {
		return err
	}
	err = b.scale(ctx, o, stdout)
	return errors.Join(err, b.testbed.Close())
}

func parseScale(args []string, getenv func(string) string, stderr io.Writer) (scaleOptions, error) {
	self, err := os.Executable()
	if err != nil {
		return scaleOptions{}, err
	}
	o := scaleOptions{options: options{self: self, pgBin: getenv("PG_BIN"), path: getenv("PATH"), clients: 64, duration: 8 * time.Second, rounds: 1}}
	flags := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	flags.SetOutput(stderr)
	sizes := flags.String("events", "1000000,10000000,100000000",
		"sizes of the logs in events, about 450 bytes of disk each; the others are compared with the first, a single one with a million")
	flags.StringVar(&o.server, "server", filepath.Join(filepath.Dir(self), "server"), "the server's binary")
	flags.StringVar(&o.dir, "dir", "", "directory for a temporary one with the databases; the system's when empty")
	flags.StringVar(&o.keep, "keep", "", "directory to keep the databases in, so that a filling that was interrupted goes on")
	flags.StringVar(&o.phase, "phase", "all", "fill, measure (what a directory that was kept holds), or all")
	flags.DurationVar(&o.duration, "duration", o.duration, "how long deposits are made")
	flags.DurationVar(&o.replayFor, "replay", 30*time.Second, "how long a replay is watched before it is cancelled")
	flags.StringVar(&o.doc, "doc", "", "Markdown document to put the table into")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.sizes, err = parseSizes(*sizes)
	return o, err
}

// parseSizes reads the sizes of the logs. Each has room for the accounts that deposits go to.
func parseSizes(text string) (sizes []int, err error) {
	for one := range strings.SplitSeq(text, ",") {
		events, err := strconv.Atoi(one)
		if err != nil || events%perAccount != 0 || events < perAccount*(workingSet+reads) {
			return nil, fmt.Errorf("-events: %q is not a multiple of %d, and %d at least", one, perAccount, perAccount*(workingSet+reads))
		}
		sizes = append(sizes, events)
	}
	if len(sizes) == 1 {
		sizes = []int{smallLog, sizes[0]}
	}
	return sizes, nil
}

func (b *bench) scale(ctx context.Context, o scaleOptions, stdout io.Writer) error {
	var logs []scaled
	for i, events := range o.sizes {
		b.current = count(events)
		l := scaled{b: b, whole: testbed.Whole{Accounts: events / perAccount, PerAccount: perAccount}, first: i == 0, replayFor: o.replayFor}
		var err error
		if l.db, err = b.testbed.EnsureDatabase(ctx, fmt.Sprintf("scale_%d", events)); err != nil {
			return err
		}
		if o.phase != "measure" {
			if err := l.fill(ctx); err != nil {
				return err
			}
		}
		if o.phase != "fill" {
			if err := l.measure(ctx); err != nil {
				return err
			}
		}
		logs = append(logs, l)
	}
	if o.phase == "fill" {
		return nil
	}
	text := scaleTable(logs, b.testbed.PostgresVersion)
	if _, err := io.WriteString(stdout, text); err != nil || o.doc == "" {
		return err
	}
	return report.Put(o.doc, "scale", text)
}

// scaled is a log of one size, with its figures.
type scaled struct {
	b         *bench
	db        testbed.Database
	whole     testbed.Whole
	first     bool // the one that the others are compared with
	replayFor time.Duration
	server    *testbed.Process
	figures   []figure
}

// figure is one row of the table.
type figure struct {
	what, unit string
	value, p99 float64 // p99 is 0 where there is none
}

func (l *scaled) fill(ctx context.Context) error {
	total := int64(l.whole.Events())
	err := l.b.testbed.FillWhole(ctx, l.db, l.whole, func(what string, done int64) {
		if done%(10*500_000) == 0 || done == 1 || done == total {
			l.b.say("filled: %s %d", what, done)
		}
	})
	if err != nil || !l.first {
		return err
	}
	// If the first log is filled correctly, so are the others.
	verify := exec.CommandContext(ctx, l.b.server, "verify")
	verify.Env = []string{"DATABASE_URL=" + l.db.URL, "PATH=" + l.b.path}
	if out, err := verify.CombinedOutput(); err != nil {
		return fmt.Errorf("server verify of the filled log: %w: %s", err, out)
	}
	l.b.say("server verify finds nothing in it")
	return nil
}

func (l *scaled) add(what, unit string, value, p99 float64) {
	l.figures = append(l.figures, figure{what, unit, value, p99})
	l.b.say("%s: %s %s; %.0f MiB resident", what, threeDigits(value), unit, l.server.ResidentMiB())
}

// measure takes every figure once.
func (l *scaled) measure(ctx context.Context) (err error) {
	began := time.Now()
	if l.server, err = l.b.testbed.StartServer(ctx, l.db); err != nil {
		return err
	}
	l.add("start of the server to ready", "ms", float64(time.Since(began).Microseconds())/1000, 0)
	defer func() { err = errors.Join(err, l.server.Stop()) }()
	for _, step := range []func(context.Context) error{l.reading, l.writing, l.replaying, l.disk} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// reading times reads at random places of the log, one after another.
func (l *scaled) reading(ctx context.Context) error {
	random := rand.New(rand.NewPCG(1, 2))
	events, accounts := int64(l.whole.Events()), int64(l.whole.Accounts)
	position := func() int64 { return 1 + random.Int64N(events) }
	later := func() int64 { return accounts + random.Int64N(events-accounts+1) } // when every account is open
	account := func() string { return "/accounts/" + load.AccountID(1+random.IntN(l.whole.Accounts)) }
	for _, read := range []struct {
		what string
		path func() string
	}{
		{"GET /accounts/{id}/balance", func() string { return account() + "/balance" }},
		{"the same at a position", func() string { return fmt.Sprintf("%s/balance?at_position=%d", account(), later()) }},
		{"the same at a moment", func() string {
			return account() + "/balance?at=" + l.whole.RecordedAt(later()).Format(time.RFC3339Nano)
		}},
		{"GET /accounts/{id}/transactions, 50 of them", func() string { return account() + "/transactions?limit=50" }},
		{"GET /accounts, a page of 50", func() string { return "/accounts?limit=50" }},
		{"GET /totals", func() string { return "/totals" }},
		{"GET /events, 100 after a position", func() string { return fmt.Sprintf("/events?limit=100&after=%d", position()-1) }},
		{"GET /events of an account, 100 from the beginning", func() string { return "/events?limit=100&after=0&subject=" + account()[len("/accounts/"):] }},
	} {
		var all report.Series
		for range reads {
			path := read.path()
			began := time.Now()
			if err := l.server.Call(ctx, http.MethodGet, path, "", http.StatusOK, nil); err != nil {
				return err
			}
			all = append(all, float64(time.Since(began).Microseconds())/1000)
		}
		l.add(read.what, "ms", all.Median(), all.Quantile(0.99))
	}
	return nil
}

// writing times deposits: into a working set at full speed, and the first into accounts that are not in memory.
func (l *scaled) writing(ctx context.Context) error {
	if err := l.b.testbed.Checkpoint(ctx); err != nil {
		return err
	}
	cold, err := l.b.generate(ctx, l.server.Addr, load.Config{Mode: load.Touch, Conns: 1, First: workingSet + 1, Accounts: reads})
	if err == nil && cold.Errors > 0 {
		err = errors.New(cold.FirstError)
	}
	if err != nil {
		return err
	}
	l.add("POST /deposits, the first into an account, one client", "ms", cold.Latency.P50/1000, cold.Latency.P99/1000)
	for _, run := range []struct {
		what     string // empty to warm up
		clients  int
		duration time.Duration
	}{
		{"", l.b.clients, l.b.duration / 4},
		{fmt.Sprintf("POST /deposits, %d clients, %d accounts", l.b.clients, workingSet), l.b.clients, l.b.duration},
		{"POST /deposits, one client", 1, l.b.duration / 2},
	} {
		r, err := l.b.generate(ctx, l.server.Addr, load.Config{Mode: load.Deposit, Conns: run.clients, Duration: run.duration, Accounts: workingSet})
		if err == nil && r.Errors > 0 {
			err = errors.New(r.FirstError)
		}
		if err != nil {
			return err
		}
		switch {
		case run.clients == 1:
			l.add(run.what, "ms", r.Latency.P50/1000, r.Latency.P99/1000)
		case run.what != "":
			l.add(run.what, "/s", r.Rate, 0)
		}
	}
	behind, err := l.server.CatchUp(ctx, catchUpTimeout)
	if err == nil {
		l.b.say("the balances caught up after %.2f s", behind.Seconds())
	}
	return err
}

// replaying watches a replay of balances to its end, or for a limited time.
func (l *scaled) replaying(ctx context.Context) error {
	var r struct {
		ID               string `json:"id"`
		State            string `json:"state"`
		Processed, Total int64
		Rate             float64
	}
	if err := l.server.Call(ctx, http.MethodPost, "/projections/balances/replay", "", http.StatusAccepted, &r); err != nil {
		return err
	}
	path := "/projections/balances/replays/" + r.ID
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); r.State == "running" && time.Since(began) < l.replayFor; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := l.server.Call(ctx, http.MethodGet, path, "", http.StatusOK, &r); err != nil {
			return err
		}
	}
	l.add("replay of balances", "events/s", r.Rate, 0)
	l.b.say("it had processed %d of %d events", r.Processed, r.Total)
	if r.State != "running" {
		return nil
	}
	return l.server.Call(ctx, http.MethodDelete, path, "", http.StatusOK, nil)
}

// disk measures the bytes per event, and the server's peak memory.
func (l *scaled) disk(ctx context.Context) error {
	for _, table := range []string{"events", "transactions"} {
		var heap, indexes, events float64
		err := l.b.testbed.Scan(ctx, l.db, fmt.Sprintf(`select sum(pg_table_size(relid))::float8, sum(pg_indexes_size(relid))::float8,
    (select max(position) from events)::float8
from (select '%[1]s'::regclass as relid union select relid from pg_partition_tree('%[1]s')) as tables`, table), &heap, &indexes, &events)
		if err != nil {
			return err
		}
		l.add(table+", the table", "bytes an event", heap/events, 0)
		l.add(table+", its indexes", "bytes an event", indexes/events, 0)
	}
	l.add("most memory the server had resident", "MiB", l.server.PeakMiB(), 0)
	return nil
}
