package main

import (
	"fmt"
	"strings"

	"passbook/test/bench/internal/report"
)

// scaleTable is the table of bench scale, in Markdown: a column for each log, and the ratios of the others to the first.
func scaleTable(logs []scaled, postgres string) string {
	var out strings.Builder
	machine := report.ThisMachine(postgres)
	fmt.Fprintf(&out, "%s\n\n| what |", machine.String())
	for _, l := range logs {
		fmt.Fprintf(&out, " at %s events |", count(l.whole.Events()))
	}
	fmt.Fprintf(&out, " ratio |\n|---|%s---|\n", strings.Repeat("---|", len(logs)))
	for i, first := range logs[0].figures {
		fmt.Fprintf(&out, "| %s | %s |", first.what, first.text())
		var ratios []string
		for _, l := range logs[1:] {
			fmt.Fprintf(&out, " %s |", l.figures[i].text())
			if first.value > 0 {
				ratios = append(ratios, fmt.Sprintf("%.2f", l.figures[i].value/first.value))
			} else {
				ratios = append(ratios, "-")
			}
		}
		fmt.Fprintf(&out, " %s |\n", strings.Join(ratios, ", "))
	}
	return out.String()
}

func (f figure) text() string {
	if f.p99 > 0 {
		return fmt.Sprintf("%s %s (p99 %s)", threeDigits(f.value), f.unit, threeDigits(f.p99))
	}
	return threeDigits(f.value) + " " + f.unit
}

// threeDigits formats a figure with its significant digits.
func threeDigits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
