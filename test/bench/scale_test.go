package main

import (
	"slices"
	"strings"
	"testing"

	"passbook/test/bench/internal/testbed"
)

func TestParseSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]int{
		"100000000":          {1_000_000, 100_000_000},
		"1000000,10000000":   {1_000_000, 10_000_000},
		"130000,150000,9900": nil,
		"130050":             nil,
		"1e6":                nil,
		"":                   nil,
	} {
		if got, err := parseSizes(text); !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestScaleTableComparesWithTheFirst(t *testing.T) {
	t.Parallel()
	var logs []scaled
	for i, rate := range []float64{1000, 900, 950} {
		logs = append(logs, scaled{
			whole:   testbed.Whole{Accounts: 10_000 * (1 + 9*i), PerAccount: perAccount},
			figures: []figure{{"deposits", "/s", rate, 0}, {"nothing", "ms", 0, 0}},
		})
	}
	text := scaleTable(logs, "15")
	for _, want := range []string{
		"| what | at 1 M events | at 10 M events | at 19 M events | ratio |\n|---|---|---|---|---|\n",
		"| deposits | 1000 /s | 900 /s | 950 /s | 0.90, 0.95 |\n",
		"| nothing | 0.00 ms | 0.00 ms | 0.00 ms | -, - |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
