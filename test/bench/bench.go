package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

// catchUpTimeout bounds how long a projection may take to apply the writes of a round.
const catchUpTimeout = 5 * time.Minute

// bench is a run: its options, its testbed, and what later measurements need from earlier ones.
type bench struct {
	options
	*progress
	testbed *testbed.Testbed

	depositRate float64       // P1, for P4
	bulkRates   report.Series // P2, for P10
	peaks       []report.Line // P8
	filled      *testbed.Database
}

// progress prints what is being measured.
type progress struct {
	out     io.Writer
	start   time.Time
	current string
}

func newProgress(out io.Writer) *progress { return &progress{out: out, start: time.Now()} }

func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "%6.0f s  %-4s %s\n", time.Since(p.start).Seconds(), p.current, fmt.Sprintf(format, args...))
}

// site is a database with a server on it, or several.
type site struct {
	b      *bench
	db     testbed.Database
	server *testbed.Process
	others []*testbed.Process
}

func (s *site) servers() []*testbed.Process { return append([]*testbed.Process{s.server}, s.others...) }

// addrs are the servers' addresses for the load generator.
func (s *site) addrs() string {
	var all []string
	for _, p := range s.servers() {
		all = append(all, p.Addr)
	}
	return strings.Join(all, ",")
}

// another starts one more server on the database.
func (s *site) another(ctx context.Context) error {
	p, err := s.b.testbed.StartServer(ctx, s.db)
	if err == nil {
		s.others = append(s.others, p)
	}
	return err
}

// open makes a database, starts a server on it with the settings, and opens the accounts through the API.
func (b *bench) open(ctx context.Context, name string, accounts int, settings ...string) (*site, error) {
	db, err := b.testbed.CreateDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := b.serve(ctx, db, settings...)
	if err != nil {
		return nil, err
	}
	r, err := b.generate(ctx, s.server.Addr, load.Config{Mode: load.Open, Conns: b.clients, Accounts: accounts})
	if err == nil && (r.Errors > 0 || r.Requests != int64(accounts)) {
		err = fmt.Errorf("opened %d of %d accounts: %s", r.Requests, accounts, r.FirstError)
	}
	if err == nil {
		_, err = s.server.CatchUp(ctx, catchUpTimeout)
	}
	if err != nil {
		return nil, errors.Join(err, s.server.Stop())
	}
	return s, nil
}

// serve starts a server on an existing database.
func (b *bench) serve(ctx context.Context, db testbed.Database, settings ...string) (*site, error) {
	server, err := b.testbed.StartServer(ctx, db, settings...)
	if err != nil {
		return nil, err
	}
	return &site{b: b, db: db, server: server}, nil
}

// close stops the servers and drops the database.
func (s *site) close(ctx context.Context) error {
	var err error
	for _, p := range s.servers() {
		err = errors.Join(err, p.Stop())
	}
	return errors.Join(err, s.b.testbed.DropDatabase(context.WithoutCancel(ctx), s.db))
}

// generate runs the load generator in a separate process.
func (b *bench) generate(ctx context.Context, addr string, c load.Config) (load.Result, error) {
	if c.First == 0 {
		c.First = 1
	}
	cmd := exec.CommandContext(ctx, b.self, "load", "-addr", addr, "-mode", string(c.Mode), "-conns", strconv.Itoa(c.Conns),
		"-duration", c.Duration.String(), "-rate", strconv.FormatFloat(c.Rate, 'f', 3, 64), "-first", strconv.Itoa(c.First),
		"-accounts", strconv.Itoa(c.Accounts), "-lines", strconv.Itoa(c.Lines), "-keys="+strconv.FormatBool(c.Keys))
	cmd.Env = []string{"PATH=" + b.path}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return load.Result{}, fmt.Errorf("load generator: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var r load.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return load.Result{}, fmt.Errorf("load generator: %w: %s", err, out)
	}
	return r, nil
}

// subject is one side of a measurement: a load on a server.
type subject struct {
	site *site
	load load.Config
	seen rounds
}

// rounds has the results of a subject's rounds.
type rounds struct {
	rate               report.Series
	p50, p99, p999     report.Series // of all requests, ms
	visible50          report.Series // ms
	visible99          report.Series // ms
	beside50           report.Series // ms
	server, pg, client report.Series // processors kept busy
	behind             report.Series // s, until the projection had applied the round's writes
	requests, errors   int64
	firstError         string
	unavailable        int
}

// warm runs the load briefly without counting it.
func (s *subject) warm(ctx context.Context) error {
	c := s.load
	c.Duration = min(s.site.b.duration/4, 2*time.Second)
	r, err := s.site.b.generate(ctx, s.site.addrs(), c)
	s.seen.unavailable = r.Unavailable
	return err
}

// round runs the load once and records the result. It returns when the projection has caught up, so that a following
// baseline has the machine to itself.
func (s *subject) round(ctx context.Context) error {
	b := s.site.b
	if err := b.testbed.Checkpoint(ctx); err != nil {
		return err
	}
	c := s.load
	c.Duration = b.duration
	before, start := b.testbed.CPU(s.site.servers()...), time.Now()
	r, err := b.generate(ctx, s.site.addrs(), c)
	if err != nil {
		return err
	}
	took, after := time.Since(start).Seconds(), b.testbed.CPU(s.site.servers()...)
	behind, err := s.site.server.CatchUp(ctx, catchUpTimeout)
	if err != nil {
		return err
	}
	s.seen.add(&r)
	s.seen.server = append(s.seen.server, (after.Server-before.Server)/took)
	s.seen.pg = append(s.seen.pg, (after.Postgres-before.Postgres)/took)
	s.seen.client = append(s.seen.client, r.CPUSeconds/took)
	s.seen.behind = append(s.seen.behind, behind.Seconds())
	if r.Requests == 0 {
		return fmt.Errorf("no request was answered as expected: %s", r.FirstError)
	}
	return nil
}

func (r *rounds) add(l *load.Result) {
	const ms = 1e-3 // of microseconds
	r.rate = append(r.rate, l.Rate)
	r.p50 = append(r.p50, l.Latency.P50*ms)
	r.p99 = append(r.p99, l.Latency.P99*ms)
	r.p999 = append(r.p999, l.Latency.P999*ms)
	if l.Visible != nil {
		r.visible50 = append(r.visible50, l.Visible.P50*ms)
		r.visible99 = append(r.visible99, l.Visible.P99*ms)
	}
	if l.Beside != nil {
		r.beside50 = append(r.beside50, l.Beside.P50*ms)
	}
	r.requests += l.Requests
	r.errors += l.Errors
	if r.firstError == "" {
		r.firstError = l.FirstError
	}
}

// fill puts the rounds' results into a line.
func (s *subject) fill(l *report.Line) {
	l.Measured = s.seen.rate
	l.Latency = &report.Latency{P50: s.seen.p50.Median(), P99: s.seen.p99.Median(), P999: s.seen.p999.Median()}
	l.Usage = &report.Usage{
		Server: s.seen.server.Median(), Postgres: s.seen.pg.Median(), Load: s.seen.client.Median(),
	}
	for _, p := range s.site.servers() {
		l.Usage.PeakMiB = max(l.Usage.PeakMiB, p.PeakMiB())
	}
	if s.seen.errors > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("%d of %d requests were not answered as expected and do not count: %s",
			s.seen.errors, s.seen.requests+s.seen.errors, s.seen.firstError))
	}
}

// alternate runs the sides in turns, so that changes of the machine's speed affect all sides alike.
func (b *bench) alternate(ctx context.Context, turns ...func(context.Context) (string, error)) error {
	for i := range b.rounds {
		for _, turn := range turns {
			said, err := turn(ctx)
			if err != nil {
				return err
			}
			b.say("round %d/%d: %s", i+1, b.rounds, said)
		}
	}
	return nil
}

// turn is a subject's turn in alternate.
func (s *subject) turn(name string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		err := s.round(ctx)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		last := len(s.seen.rate) - 1
		return fmt.Sprintf("%s %.0f/s, p99 %.1f ms, projection caught up after %.2f s", name, s.seen.rate[last], s.seen.p99[last],
			s.seen.behind[last]), nil
	}
}

// pgbench returns a turn of pgbench; its figure is transactions a second times rows.
func (b *bench) pgbench(db testbed.Database, script string, clients, rows int, into *report.Series) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if err := b.testbed.Checkpoint(ctx); err != nil {
			return "", err
		}
		r, err := b.testbed.Pgbench(ctx, db, script, clients, b.duration)
		if err != nil {
			return "", err
		}
		*into = append(*into, r.TPS*float64(rows))
		return fmt.Sprintf("pgbench %.0f/s, latency %.2f ms on average", r.TPS*float64(rows), r.LatencyMS), nil
	}
}
