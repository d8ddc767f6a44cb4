package docstest

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRatesComeFromTheLastRun keeps measured rates out of the prose: a figure per second with three or more significant
// digits is a measured one, and must be from the last run of the benchmarks. Estimates are round. The test skips the page
// of benchmarks, which has their history, and the generated blocks of other pages.
func TestRatesComeFromTheLastRun(t *testing.T) {
	t.Parallel()
	benchmarks := filepath.Join(root, "docs", "benchmarks.md")
	lastRun := generated.FindString(string(read(t, benchmarks).source))
	if lastRun == "" {
		t.Fatalf("%s has no generated block", benchmarks)
	}
	for _, d := range documents(t) {
		if d.path == benchmarks {
			continue
		}
		for _, figure := range strayRates(generated.ReplaceAllString(string(d.source), ""), lastRun) {
			t.Errorf("%s says %s a second, which is not in the last run; link to docs/benchmarks.md instead", d.path, figure)
		}
	}
}

var (
	generated = regexp.MustCompile(`(?s)<!-- \w+:begin.*?:end -->`)
	rate      = regexp.MustCompile(`([0-9][0-9,.]*)(?: ?k| thousand)?(?: [a-z]+){0,2}(?: ?/s\b| (?:a|per) second)`)
)

// strayRates returns the rates of a text that look measured and are not in the last run.
func strayRates(text, lastRun string) []string {
	var stray []string
	for _, m := range rate.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1) {
		digits := strings.Trim(strings.NewReplacer(",", "", ".", "").Replace(m[1]), "0")
		if len(digits) > 2 && !strings.Contains(lastRun, strings.Trim(m[1], ",.")) {
			stray = append(stray, m[1])
		}
	}
	return stray
}

func TestStrayRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"deposits: 14,467/s":                       1,
		"7,324 deposits a second on two cores":     1,
		"21.5 k/s":                                 1,
		"161,170 events a second, as in the table": 0,
		"say 3,500 deposits a second":              0,
		"30 million events a day, 350 a second":    0,
		"319 bytes an event":                       0,
	} {
		if got := strayRates(text, "| 161,170 events/s |"); len(got) != want {
			t.Errorf("%q: %v, want %d", text, got, want)
		}
	}
}
