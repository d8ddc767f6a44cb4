package main

import (
	"testing"

	"passbook/test/bench/internal/report"
)

// A series that warms up and then stays level is flat; one that keeps growing is not.
func TestGrowth(t *testing.T) {
	t.Parallel()
	g := gauge{part: 0.1, more: 5}
	var warm, leak, saw report.Series
	for n := range 60 {
		warm = append(warm, 100+float64(min(n, 15))*10)
		leak = append(leak, 100+float64(n)*3)
		saw = append(saw, 100+float64(n%4)*20)
	}
	for name, tt := range map[string]struct {
		series report.Series
		ok     bool
	}{"warms up": {warm, true}, "goes up and down": {saw, true}, "leaks": {leak, false}} {
		if middle, last, allowed, ok := g.growth(tt.series); ok != tt.ok {
			t.Errorf("%s: from %v to %v, %v allowed", name, middle, last, allowed)
		}
	}
}

func TestThreeDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{1234.6: "1235", 99.96: "100.0", 12.34: "12.3", 1.234: "1.23", 0: "0.00"} {
		if got := threeDigits(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
