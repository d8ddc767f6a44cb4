// Package report holds the figures of a benchmark run, judges them, and prints them.
package report

import (
	"slices"
	"time"
)

// Rule has the bounds of a line.
type Rule struct {
	// Must and Goal are bounds on the ratio to the baseline or, with OfValue, on the measured figure itself. A line
	// without a Must is not judged; one without a Goal has no goal beyond it.
	Must float64 `json:"must,omitempty"`
	Goal float64 `json:"goal,omitempty"`
	// OfValue says that the bounds are on the figure, AtMost that they are upper bounds.
	OfValue bool `json:"of_value,omitempty"`
	AtMost  bool `json:"at_most,omitempty"`
}

// Series is one figure from each round, in their order.
type Series []float64

// Median returns the middle value, or the mean of the two middle ones; 0 if there are none.
func (s Series) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// Quantile returns the value below which a given part of the series lies; 0 if there are none.
func (s Series) Quantile(part float64) float64 {
	if len(s) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(s))[min(len(s)-1, int(part*float64(len(s))))]
}

// Latency is the medians over the rounds, in milliseconds.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

// Usage is what a measurement used of the machine, as medians over the rounds: processors kept busy by the server, by
// PostgreSQL, and by the load generator; and the most memory the server had resident, in MiB.
type Usage struct {
	Server   float64 `json:"server_cpus"`
	Postgres float64 `json:"postgres_cpus"`
	Load     float64 `json:"load_cpus"`
	PeakMiB  float64 `json:"server_peak_mib"`
}

// Line is one line of the table.
type Line struct {
	ID   string `json:"id"`
	What string `json:"what"`
	// Versus names the baseline, empty when there is none.
	Versus   string `json:"versus,omitempty"`
	Unit     string `json:"unit"`
	Baseline Series `json:"baseline,omitempty"`
	Measured Series `json:"measured,omitempty"`
	Rule     Rule   `json:"rule"`

	Latency *Latency `json:"latency,omitempty"`
	Usage   *Usage   `json:"usage,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// Missing says why there is no figure: the measured feature does not exist.
	Missing string `json:"missing,omitempty"`
	// Failed says why the measurement could not be made.
	Failed string `json:"failed,omitempty"`

	// The rest is set by Judge, for readers of the JSON.
	BaselineMedian float64 `json:"baseline_median,omitempty"`
	MeasuredMedian float64 `json:"measured_median,omitempty"`
	Ratio          float64 `json:"ratio,omitempty"`
	Verdict        Verdict `json:"verdict"`
}

// Verdict is the result of a line by its rule.
type Verdict string

// The verdicts.
const (
	MetGoal   Verdict = "met goal"
	MetMust   Verdict = "met must"
	Short     Verdict = "short"
	NotJudged Verdict = "-"
	NotThere  Verdict = "not available"
	Failed    Verdict = "failed"
)

// Judge fills in the medians, the ratio and the verdict. The ratio is that of the medians.
func (l *Line) Judge() {
	l.BaselineMedian, l.MeasuredMedian = l.Baseline.Median(), l.Measured.Median()
	if l.BaselineMedian > 0 {
		l.Ratio = l.MeasuredMedian / l.BaselineMedian
	}
	value := l.Ratio
	if l.Rule.OfValue {
		value = l.MeasuredMedian
	}
	switch {
	case l.Failed != "":
		l.Verdict = Failed
	case l.Missing != "":
		l.Verdict = NotThere
	case l.Rule.Must == 0:
		l.Verdict = NotJudged
	case l.Rule.Goal != 0 && l.Rule.holds(value, l.Rule.Goal):
		l.Verdict = MetGoal
	case l.Rule.holds(value, l.Rule.Must):
		l.Verdict = MetMust
	default:
		l.Verdict = Short
	}
}

func (r *Rule) holds(value, bound float64) bool {
	if r.AtMost {
		return value > 0 && value <= bound
	}
	return value >= bound
}

// Machine is where a run was made.
type Machine struct {
	CPU       string    `json:"cpu"`
	Cores     int       `json:"cores"`
	MemoryMiB int       `json:"memory_mib"`
	OS        string    `json:"os"`
	Go        string    `json:"go"`
	Postgres  string    `json:"postgres"`
	Revision  string    `json:"revision,omitempty"`
	Date      time.Time `json:"date"`
}

// Report is a run.
type Report struct {
	Machine Machine `json:"machine"`
	// Settings describes how the run was made.
	Settings string `json:"settings"`
	Lines    []Line `json:"lines"`
}

// Missed returns how many lines miss their must, or have a must but no figure.
func (r *Report) Missed() int {
	n := r.Count(Short)
	for i := range r.Lines {
		if r.Lines[i].Verdict == NotThere && r.Lines[i].Rule.Must != 0 {
			n++
		}
	}
	return n
}

// Count returns how many lines have the verdict.
func (r *Report) Count(v Verdict) int {
	n := 0
	for i := range r.Lines {
		if r.Lines[i].Verdict == v {
			n++
		}
	}
	return n
}
