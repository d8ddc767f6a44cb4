package main

import (
	"context"
	"errors"
	"fmt"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
)

// deposits is P1, with a bare handler and pgbench as baselines, and with every second command refused.
func (b *bench) deposits(ctx context.Context) (lines []report.Line, err error) {
	http := report.Line{
		ID: "P1 HTTP", What: "POST /deposits", Versus: "a bare chi handler", Unit: "/s", Rule: report.Rule{Must: 0.27, Goal: 0.4},
	}
	pg := report.Line{
		ID: "P1 pg", What: http.What, Versus: "pgbench INSERT", Unit: "/s", Rule: report.Rule{Must: 0.7, Goal: 1},
	}
	refused := report.Line{
		ID: "P1 refused", What: "deposits, and as many refused withdrawals", Versus: http.What, Unit: "/s",
		Rule: report.Rule{Must: 0.9, Goal: 1},
	}
	db, err := b.baseline(ctx, "p1_baseline")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.DropDatabase(context.WithoutCancel(ctx), db)) }()
	handler, err := b.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, handler.Stop()) }()
	at, err := b.open(ctx, "p1", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	s := &subject{site: at, load: b.depositLoad()}
	r := &subject{site: at, load: b.depositLoad()}
	r.load.Mode = load.Refused
	for _, s := range []*subject{s, r} {
		if err := s.warm(ctx); err != nil {
			return nil, err
		}
	}
	err = b.alternate(ctx, b.pgbench(db, insertScript(b.accounts), b.clients, 1, &pg.Baseline),
		b.bare(handler, s.load, &http.Baseline), s.turn("deposits"), r.turn("deposits and refused withdrawals"))
	if err != nil {
		return nil, err
	}
	s.fill(&http)
	http.Notes = append(http.Notes, fmt.Sprintf("the projector was live and had caught up %.2f s after the last deposit",
		s.seen.behind.Median()))
	pg.Measured, refused.Baseline = s.seen.rate, s.seen.rate
	r.fill(&refused)
	b.depositRate = s.seen.rate.Median()
	b.rememberPeak("server after P1", at.server)
	return []report.Line{http, pg, refused}, nil
}

func (b *bench) depositLoad() load.Config {
	return load.Config{Mode: load.Deposit, Conns: b.clients, Accounts: b.accounts}
}

// fewAccounts is so few that two instances always use the same ones.
const fewAccounts = 30

// twoInstances is P1 with its load split over two instances on one database, compared with one instance on another.
func (b *bench) twoInstances(ctx context.Context) (lines []report.Line, err error) {
	one, err := b.open(ctx, "one", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, one.close(ctx)) }()
	two, err := b.open(ctx, "two", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, two.close(ctx)) }()
	if err := two.another(ctx); err != nil {
		return nil, err
	}
	type pair struct {
		accounts   int
		alone, two *subject
	}
	var pairs []pair
	var turns []func(context.Context) (string, error)
	for _, accounts := range []int{b.accounts, min(fewAccounts, b.accounts)} {
		p := pair{accounts, &subject{site: one, load: b.depositLoad()}, &subject{site: two, load: b.depositLoad()}}
		for _, s := range []*subject{p.alone, p.two} {
			s.load.Accounts = accounts
			if err := s.warm(ctx); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, p)
		turns = append(turns, p.alone.turn(fmt.Sprintf("one instance, %d accounts,", accounts)),
			p.two.turn(fmt.Sprintf("two instances, %d accounts,", accounts)))
	}
	if err := b.alternate(ctx, turns...); err != nil {
		return nil, err
	}
	for _, p := range pairs {
		line := report.Line{
			ID: "P1 two", What: fmt.Sprintf("deposits into %d accounts, two instances", p.accounts), Versus: "one instance", Unit: "/s",
			Baseline: p.alone.seen.rate, Rule: report.Rule{Must: 0.6, Goal: 0.9},
		}
		p.two.fill(&line)
		lines = append(lines, line)
	}
	return lines, nil
}

// bulkBeside is how many streams run while a single deposit is measured.
const bulkBeside = 16

// besideBulk measures how long a single deposit takes while many streams of commands are appended.
func (b *bench) besideBulk(ctx context.Context) (lines []report.Line, err error) {
	at, err := b.open(ctx, "beside", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	s := &subject{site: at, load: load.Config{Mode: load.Beside, Conns: bulkBeside, Accounts: b.accounts, Lines: bulkLines}}
	if err := s.warm(ctx); err != nil {
		return nil, err
	}
	err = b.alternate(ctx, func(ctx context.Context) (string, error) {
		said, err := s.turn("commands")(ctx)
		if err == nil && len(s.seen.beside50) < len(s.seen.rate) {
			err = errors.New("no single deposit was answered")
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, single deposits p50 %.1f ms", said, s.seen.beside50[len(s.seen.beside50)-1]), nil
	})
	if err != nil {
		return nil, err
	}
	line := report.Line{
		ID: "P1 beside bulk", What: fmt.Sprintf("a single deposit beside %d NDJSON streams, p50", bulkBeside), Unit: "ms",
		Rule: report.Rule{Must: 30, Goal: 10, OfValue: true, AtMost: true},
	}
	s.fill(&line)
	line.Measured = s.seen.beside50
	line.Notes = append(line.Notes, fmt.Sprintf("the streams appended %.0f events a second meanwhile; the latencies in the table are theirs",
		s.seen.rate.Median()))
	return []report.Line{line}, nil
}
