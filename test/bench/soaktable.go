package main

import (
	"fmt"
	"strings"

	"passbook/test/bench/internal/report"
)

// gauge is a quantity that must be as large at the end of a soak as in its middle.
type gauge struct {
	what, unit string
	value      func(sample) float64
	// It may be larger by a part or by an amount, whichever is more, because of a running replay or a table that is
	// just being vacuumed.
	part, more float64
}

const mib = 1 << 20

var gauges = [...]gauge{
	{"memory of the server", "MiB", func(s sample) float64 { return s.rss }, 0.2, 32},
	{"goroutines", "", func(s sample) float64 { return s.goroutines }, 0.1, 15},
	{"open files of the server", "", func(s sample) float64 { return s.files }, 0.1, 10},
	{"connections to PostgreSQL", "", func(s sample) float64 { return s.connections }, 0.1, 5},
	{"events, table and indexes", "bytes an event", func(s sample) float64 { return s.eventBytes / max(s.events, 1) }, 0.15, 0},
	{"transactions, table and indexes", "bytes an event", func(s sample) float64 { return s.statementBytes / max(s.events, 1) }, 0.15, 0},
	{"idempotency keys, table and indexes", "bytes a key", func(s sample) float64 { return s.keyBytes / max(s.keys, 1) }, 0.15, 0},
	{"balances, table and indexes", "MiB", func(s sample) float64 { return s.balanceBytes / mib }, 0.5, 4},
	{"totals, table and indexes", "MiB", func(s sample) float64 { return s.totalBytes / mib }, 0.5, 1},
	{"projections, replays, failures", "MiB", func(s sample) float64 { return s.otherBytes / mib }, 0.5, 2},
}

// growth compares the last third of a series with the middle one: the first is the warm-up. Of both it takes the lower
// quartile, because memory and tables go up with each replay and down again after it, while a leak lifts what they go
// down to. ok is false when that has grown by more than the gauge allows.
func (g *gauge) growth(s report.Series) (middle, last, allowed float64, ok bool) {
	third := len(s) / 3
	middle, last = s[third:2*third].Quantile(0.25), s[2*third:].Quantile(0.25)
	allowed = middle + max(g.part*middle, g.more)
	return middle, last, allowed, last <= allowed
}

// table is the outcome of a soak, in Markdown, and the names of what has grown.
func (w *watch) table(rate float64) (text string, grew []string) {
	var out strings.Builder
	machine := report.ThisMachine(w.b.testbed.PostgresVersion)
	fmt.Fprintf(&out, "%s\n\n%s at %.0f deposits and %.0f reads a second: %d deposits, %d reads, %d replays, no request failed, "+
		"and server verify found nothing. The first third is the warm-up.\n\n| what | in the middle | at the end | allowed | |\n|---|---|---|---|---|\n",
		machine.String(), w.b.duration, rate, rate, w.requests[0], w.requests[1], w.replayed)
	for i := range gauges {
		g := &gauges[i]
		middle, last, allowed, ok := g.growth(w.series[i])
		verdict := "flat"
		if !ok {
			verdict = "**grew**"
			grew = append(grew, g.what)
		}
		unit := strings.TrimSuffix(" "+g.unit, " ")
		fmt.Fprintf(&out, "| %s | %s%s | %s%s | %s%s | %s |\n", g.what, threeDigits(middle), unit, threeDigits(last), unit, threeDigits(allowed), unit, verdict)
	}
	return out.String(), grew
}
