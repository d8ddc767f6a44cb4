package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"passbook/test/bench/internal/load"
	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

// The baseline's table is the log without its writer: the same columns, key and constraints, positions from a sequence. One
// row corresponds to one deposit in the log.
const (
	baselineTable = `create table bench_events (
    position       bigint      not null,
    stream_id      uuid        not null,
    version        bigint      not null,
    event_id       uuid        not null,
    type           text        not null,
    schema_version integer     not null,
    payload        jsonb       not null,
    metadata       jsonb       not null,
    recorded_at    timestamptz not null,
    constraint bench_events_pkey primary key (position),
    constraint bench_events_stream_version unique (stream_id, version),
    constraint bench_events_counts_from_one check (position > 0 and version > 0)
)`
	baselineSequences = `create sequence bench_position; create sequence bench_version`

	baselineInsert = `insert into bench_events
    (position, stream_id, version, event_id, type, schema_version, payload, metadata, recorded_at)
`
	// Values that are the same in every row are literals, which are cheaper than parameters: that favours the baseline.
	baselineRow = `nextval('bench_position'), ('00000000-0000-4000-8000-' || lpad(to_hex(%s), 12, '0'))::uuid,
    nextval('bench_version'), gen_random_uuid(), 'MoneyDeposited', 1, '{"amount":100,"currency":"EUR"}'::jsonb,
    '{"correlation_id":"5e1d3b8f0a7c4629b1f0d2c3a4b5c6d7"}'::jsonb, clock_timestamp()`

	baselineRows = 500
)

func insertScript(accounts int) string {
	return fmt.Sprintf("\\set account random(1, %d)\n%sselect %s;\n", accounts, baselineInsert,
		fmt.Sprintf(baselineRow, ":account::bigint"))
}

func bulkScript(accounts int) string {
	return fmt.Sprintf("%sselect %s\nfrom generate_series(1, %d) as g;\n", baselineInsert,
		fmt.Sprintf(baselineRow, fmt.Sprintf("1 + g %% %d", accounts)), baselineRows)
}

// baseline makes a database with the baseline's table.
func (b *bench) baseline(ctx context.Context, name string) (testbed.Database, error) {
	db, err := b.testbed.CreateDatabase(ctx, name)
	if err != nil {
		return db, err
	}
	return db, b.testbed.Exec(ctx, db, baselineTable, baselineSequences)
}

// bulkConns is how many streams P2 sends at a time, and bulkLines is the length of each.
const (
	bulkConns = 4
	bulkLines = 10_000
)

// bulk is P2, and the same with a key on every item.
func (b *bench) bulk(ctx context.Context) (lines []report.Line, err error) {
	plain := report.Line{
		ID: "P2", What: "POST /commands, NDJSON", Versus: "500-row INSERT … SELECT", Unit: "events/s",
		Rule: report.Rule{Must: 0.45, Goal: 0.7},
	}
	keyed := report.Line{
		ID: "P2 keys", What: "the same, a key on every item", Versus: plain.Versus, Unit: plain.Unit,
	}
	db, err := b.baseline(ctx, "p2_baseline")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.DropDatabase(context.WithoutCancel(ctx), db)) }()
	at, err := b.open(ctx, "p2", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	config := load.Config{Mode: load.Commands, Conns: bulkConns, Accounts: b.accounts, Lines: bulkLines}
	s := &subject{site: at, load: config}
	config.Keys = true
	k := &subject{site: at, load: config}
	if err := s.warm(ctx); err != nil {
		return nil, err
	}
	if s.seen.unavailable != 0 {
		plain.Missing = fmt.Sprintf("not available (%d): this server has no POST /commands", s.seen.unavailable)
		b.say("%s", plain.Missing)
		return []report.Line{plain}, nil
	}
	err = b.alternate(ctx, b.pgbench(db, bulkScript(b.accounts), bulkConns, baselineRows, &plain.Baseline),
		s.turn("commands"), k.turn("commands with keys"))
	if err != nil {
		return nil, err
	}
	keyed.Baseline = plain.Baseline
	s.fill(&plain)
	k.fill(&keyed)
	b.bulkRates = plain.Measured
	plain.Notes = append(plain.Notes, fmt.Sprintf("latencies are of whole streams of %d items, %d at a time", bulkLines, bulkConns))
	return []report.Line{plain, keyed}, nil
}

// hotAccount is P6.
func (b *bench) hotAccount(ctx context.Context) (lines []report.Line, err error) {
	line := report.Line{
		ID: "P6", What: "deposits into one account", Versus: fmt.Sprintf("into %d accounts", b.accounts), Unit: "/s",
		Rule: report.Rule{Must: 0.9, Goal: 1},
	}
	at, err := b.open(ctx, "p6", b.accounts+1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.close(ctx)) }()
	spread := &subject{site: at, load: b.depositLoad()}
	hot := &subject{site: at, load: b.depositLoad()}
	hot.load.First, hot.load.Accounts = b.accounts+1, 1
	for _, s := range []*subject{spread, hot} {
		if err := s.warm(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.alternate(ctx, spread.turn("many accounts"), hot.turn("one account")); err != nil {
		return nil, err
	}
	line.Baseline = spread.seen.rate
	hot.fill(&line)
	return []report.Line{line}, nil
}

// longLog is P7: the log and one account are long, the rest is P1.
func (b *bench) longLog(ctx context.Context) (lines []report.Line, err error) {
	db, err := b.fill(ctx)
	if err != nil {
		return nil, err
	}
	long, err := b.serve(ctx, db)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, long.server.Stop()) }()
	if _, err := long.server.CatchUp(ctx, catchUpTimeout); err != nil {
		return nil, err
	}
	short, err := b.open(ctx, "p7", b.accounts)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, short.close(ctx)) }()

	coldOne, coldAll, err := b.touch(ctx, long)
	if err != nil {
		return nil, err
	}
	empty := &subject{site: short, load: b.depositLoad()}
	full := &subject{site: long, load: b.depositLoad()}
	hot := &subject{site: long, load: b.depositLoad()}
	hot.load.Accounts = 1
	for _, s := range []*subject{empty, full, hot} {
		if err := s.warm(ctx); err != nil {
			return nil, err
		}
	}
	if err := b.alternate(ctx, empty.turn("empty log"), full.turn("long log"), hot.turn("long account")); err != nil {
		return nil, err
	}
	rule := report.Rule{Must: 0.9, Goal: 1}
	log := report.Line{
		ID: "P7", What: fmt.Sprintf("deposits with %s events in the log", count(b.events)), Versus: "with an empty log", Unit: "/s",
		Baseline: empty.seen.rate, Rule: rule,
	}
	full.fill(&log)
	log.Notes = append(log.Notes, fmt.Sprintf(
		"before it, the first deposit into each of the %d accounts, without snapshots and with nothing cached, took %.1f s in all",
		b.accounts, coldAll.Seconds()))
	account := report.Line{
		ID: "P7", What: fmt.Sprintf("deposits into an account of %s events", count(b.hotEvents())), Versus: "P1 with an empty log",
		Unit: "/s", Baseline: empty.seen.rate, Rule: rule,
		Notes: []string{fmt.Sprintf("the first deposit into that account, without a snapshot and with nothing cached, took %.2f s",
			coldOne.Seconds())},
	}
	hot.fill(&account)
	return []report.Line{log, account}, nil
}

// touch makes the first deposit into account 1, and then one into each account, so that the measurement does not include
// loading accounts from a log that the server did not write.
func (b *bench) touch(ctx context.Context, at *site) (one, all time.Duration, err error) {
	start := time.Now()
	for _, n := range []int{1, b.accounts} {
		r, err := b.generate(ctx, at.server.Addr, load.Config{Mode: load.Touch, Conns: min(n, b.clients), Accounts: n})
		if err == nil && r.Requests != int64(n) {
			err = fmt.Errorf("%d of %d first deposits failed: %s", r.Errors, n, r.FirstError)
		}
		if err != nil {
			return 0, 0, err
		}
		if n == 1 {
			one = time.Since(start)
		}
		b.say("first deposits into %d accounts: %.2f s", n, r.Seconds)
	}
	return one, time.Since(start), nil
}
