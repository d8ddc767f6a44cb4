package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"passbook/test/bench/internal/report"
	"passbook/test/bench/internal/testbed"
)

// measurement is one entry of the plan. It may produce several lines.
type measurement struct {
	id  string
	run func(*bench, context.Context) ([]report.Line, error)
	// needs are measured before it.
	needs []string
}

// plan returns all measurements in their order: the filled log comes late, because it takes longest, and the cold starts
// last.
var plan = []measurement{
	{id: "LAT", run: (*bench).oneClient},
	{id: "P1", run: (*bench).deposits},
	{id: "P1-TWO", run: (*bench).twoInstances},
	{id: "P1-BULK", run: (*bench).besideBulk},
	{id: "P1-AUDITED", run: (*bench).audited},
	{id: "P2", run: (*bench).bulk},
	{id: "P10", run: (*bench).relay, needs: []string{"P2"}},
	{id: "P3", run: (*bench).balances},
	{id: "P4", run: (*bench).visibility},
	{id: "P6", run: (*bench).hotAccount},
	{id: "P5", run: (*bench).replay},
	{id: "P7", run: (*bench).longLog},
	{id: "P8", run: (*bench).memory, needs: []string{"P1", "P5"}},
	{id: "P9", run: (*bench).coldStart},
}

func allIDs() []string {
	ids := make([]string, len(plan))
	for i, m := range plan {
		ids[i] = m.id
	}
	slices.Sort(ids)
	return ids
}

// choose returns the requested part of the plan, with the measurements that it needs.
func choose(only []string) (map[string]bool, error) {
	chosen := make(map[string]bool)
	for _, id := range only {
		if !slices.Contains(allIDs(), id) {
			return nil, fmt.Errorf("there is no measurement %q; there are %s", id, strings.Join(allIDs(), ", "))
		}
		chosen[id] = true
	}
	for _, m := range plan {
		if len(only) == 0 {
			chosen[m.id] = true
		}
		if chosen[m.id] {
			for _, need := range m.needs {
				chosen[need] = true
			}
		}
	}
	return chosen, nil
}

// measure makes the whole run. A failed measurement becomes a line that says so; the others continue.
func measure(ctx context.Context, o options, stderr io.Writer) (_ *report.Report, err error) {
	chosen, err := choose(o.only)
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, progress: newProgress(stderr)}
	b.say("starting a private PostgreSQL")
	b.testbed, err = testbed.New(ctx, testbed.Options{Dir: o.dir, PGBin: o.pgBin, Server: o.server, Path: o.path})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.testbed.Close()) }()

	r := &report.Report{Machine: report.ThisMachine(b.testbed.PostgresVersion), Settings: fmt.Sprintf(
		"%d rounds of %s each, medians; %d clients, %d accounts; the filled log holds %d events.",
		o.rounds, o.duration, o.clients, o.accounts, o.events)}
	for _, m := range plan {
		if !chosen[m.id] {
			continue
		}
		b.current = m.id
		lines, err := m.run(b, ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			b.say("failed: %v", err)
			lines = append(lines, report.Line{ID: m.id, What: "(not measured)", Failed: err.Error()})
		}
		r.Lines = append(r.Lines, lines...)
	}
	for i := range r.Lines {
		r.Lines[i].Judge()
	}
	slices.SortStableFunc(r.Lines, func(x, y report.Line) int { return strings.Compare(x.ID, y.ID) })
	return r, nil
}
