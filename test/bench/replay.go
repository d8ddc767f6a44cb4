package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

// replayTimeout bounds a replay of the filled log, and catching up with it for the first time.
const replayTimeout = 30 * time.Minute

// PostgreSQL itself makes the copy and discards it, without a client: the fastest way to read and format every row of the
// log.
const copySQL = `copy (select position, stream_id, version, event_id, type, schema_version, payload, recorded_at from events) to '/dev/null'`

// hotEvents is how many events of the filled log are one account's.
func (b *bench) hotEvents() int { return min(1_000_000, b.events/10) }

// fill makes the long log once per run. It is removed with the Testbed.
func (b *bench) fill(ctx context.Context) (testbed.Database, error) {
	if b.filled != nil {
		return *b.filled, nil
	}
	db, err := b.testbed.CreateDatabase(ctx, "filled")
	if err != nil {
		return db, err
	}
	log := testbed.Log{Events: b.events, Accounts: b.accounts, Hot: b.hotEvents()}
	err = b.testbed.Fill(ctx, db, log, func(done int) { b.say("filling the log by SQL: %s of %s events", count(done), count(b.events)) })
	if err != nil {
		return db, errors.Join(fmt.Errorf("fill: %w", err), b.testbed.DropDatabase(context.WithoutCancel(ctx), db))
	}
	b.filled = &db
	return db, nil
}

// replay is P5.
func (b *bench) replay(ctx context.Context) (lines []report.Line, err error) {
	db, err := b.fill(ctx)
	if err != nil {
		return nil, err
	}
	at, err := b.serve(ctx, db)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.server.Stop()) }()
	behind, err := at.server.CatchUp(ctx, replayTimeout)
	if err != nil {
		return nil, err
	}
	b.say("the live projection has caught up with the filled log in %.1f s", behind.Seconds())
	line := report.Line{
		ID: "P5", What: fmt.Sprintf("replay of %s events into balances", count(b.events)), Versus: "COPY TO /dev/null",
		Unit: "events/s", Rule: report.Rule{Must: 0.9, Goal: 1.3},
		Notes: []string{fmt.Sprintf("before it, the live projection caught up with the same events at %.0f a second",
			float64(b.events)/behind.Seconds())},
	}
	var server, postgres report.Series
	err = b.alternate(ctx,
		func(ctx context.Context) (string, error) {
			took, rows, err := b.testbed.Timed(ctx, db, copySQL)
			line.Baseline = append(line.Baseline, float64(rows)/took.Seconds())
			return fmt.Sprintf("COPY of %d rows in %.1f s", rows, took.Seconds()), err
		},
		func(ctx context.Context) (string, error) {
			before := b.testbed.CPU(at.server)
			r, err := at.server.Replay(ctx, replayTimeout)
			if err != nil {
				return "", err
			}
			after := b.testbed.CPU(at.server)
			seconds := r.Took.Seconds()
			server = append(server, (after.Server-before.Server)/seconds)
			postgres = append(postgres, (after.Postgres-before.Postgres)/seconds)
			line.Measured = append(line.Measured, float64(r.Total)/seconds)
			return fmt.Sprintf("replay of %d events in %.1f s", r.Total, seconds), nil
		})
	if err != nil {
		return nil, err
	}
	line.Usage = &report.Usage{Server: server.Median(), Postgres: postgres.Median(), PeakMiB: at.server.PeakMiB()}
	b.rememberPeak("server after P5", at.server)
	return []report.Line{line}, nil
}

// rememberPeak records a server's peak memory for P8.
func (b *bench) rememberPeak(what string, p *testbed.Process) {
	line := report.Line{
		ID: "P8", What: "peak memory of the " + what, Unit: "MiB", Rule: report.Rule{Must: 150, Goal: 64, OfValue: true, AtMost: true},
	}
	if peak := p.PeakMiB(); peak > 0 {
		line.Measured = report.Series{peak}
	} else {
		line.Missing = "this system does not tell the peak memory of a process"
	}
	b.peaks = append(b.peaks, line)
}

// memory is P8: the peaks that P1 and P5 recorded.
func (b *bench) memory(context.Context) ([]report.Line, error) {
	if len(b.peaks) < 2 {
		return b.peaks, errors.New("P1 or P5 has failed")
	}
	return b.peaks, nil
}

// coldStart is P9.
func (b *bench) coldStart(ctx context.Context) ([]report.Line, error) {
	atMost := func(must, goal float64) report.Rule {
		return report.Rule{Must: must, Goal: goal, OfValue: true, AtMost: true}
	}
	empty := report.Line{ID: "P9", What: "start to first command, empty data directory", Unit: "s", Rule: atMost(4, 1)}
	again := report.Line{ID: "P9", What: "start to first command, again", Unit: "s", Rule: atMost(1, 0.2)}
	var emptyLive, againLive report.Series
	for i := range b.rounds {
		dir := fmt.Sprintf("p9-%d", i+1)
		for _, start := range []struct {
			line *report.Line
			live *report.Series
		}{{&empty, &emptyLive}, {&again, &againLive}} {
			st, err := b.testbed.FirstAnswer(ctx, dir)
			if err != nil {
				return nil, err
			}
			start.line.Measured = append(start.line.Measured, st.Command.Seconds())
			*start.live = append(*start.live, st.Live.Seconds())
			b.say("round %d/%d: %s: %.3f s", i+1, b.rounds, start.line.What, st.Command.Seconds())
		}
	}
	empty.Notes = []string{fmt.Sprintf("the first answer of /livez came after %.3f s", emptyLive.Median())}
	again.Notes = []string{fmt.Sprintf("again, the first answer of /livez came after %.3f s", againLive.Median())}
	return []report.Line{empty, again}, nil
}

// count formats a number of events for reading.
func count(n int) string {
	switch {
	case n >= 1_000_000 && n%100_000 == 0:
		return fmt.Sprintf("%g M", float64(n)/1e6)
	case n >= 1000 && n%100 == 0:
		return fmt.Sprintf("%g k", float64(n)/1e3)
	}
	return fmt.Sprintf("%d", n)
}
