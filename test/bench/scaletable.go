package main

import (
	"fmt"
	"strings"

	"passbook/test/bench/internal/report"
)

// scaleTable is the table of bench scale, in Markdown.
func scaleTable(small, large []figure, long, postgres string) string {
	var out strings.Builder
	machine := report.ThisMachine(postgres)
	fmt.Fprintf(&out, "%s\n\n| what | at %s events | at %s events | ratio |\n|---|---|---|---|\n",
		machine.String(), count(smallLog), long)
	for i, s := range small {
		l := large[i]
		ratio := "-"
		if s.value > 0 {
			ratio = fmt.Sprintf("%.2f", l.value/s.value)
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", s.what, s.text(), l.text(), ratio)
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
