package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

var (
	tableHead  = []string{"#", "what", "baseline", "measured", "ratio", "must", "goal", "verdict"}
	detailHead = []string{"#", "p50 ms", "p99 ms", "p99.9 ms", "server CPUs", "PostgreSQL CPUs", "load CPUs", "server peak MiB", "rounds (baseline → measured)"}
)

// Text prints the run for a terminal.
func (r *Report) Text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{tableHead}, r.tableRows()...) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if details := r.detailRows(); len(details) > 0 {
		fmt.Fprintln(table)
		for _, row := range append([][]string{detailHead}, details...) {
			fmt.Fprintln(table, strings.Join(row, "\t"))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, note := range r.notes() {
		fmt.Fprintln(w, note)
	}
	_, err := fmt.Fprintf(w, "\n%s\n%s\n", r.Machine.String(), r.Settings)
	return err
}

// Markdown prints the run for docs/benchmarks.md.
func (r *Report) Markdown(w io.Writer) error {
	fmt.Fprintf(w, "%s\n\n%s\n\n", r.Machine.String(), r.Settings)
	markdownTable(w, tableHead, r.tableRows())
	fmt.Fprintln(w)
	markdownTable(w, detailHead, r.detailRows())
	fmt.Fprintln(w)
	for _, note := range r.notes() {
		fmt.Fprintln(w, "- "+note)
	}
	return nil
}

func markdownTable(w io.Writer, head []string, rows [][]string) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

// String names the machine in one line.
func (m *Machine) String() string {
	s := fmt.Sprintf("%s: %s, %d cores, %.1f GiB of memory, %s, %s, PostgreSQL %s.", m.Date.UTC().Format("2006-01-02 15:04 UTC"),
		m.CPU, m.Cores, float64(m.MemoryMiB)/1024, m.OS, m.Go, m.Postgres)
	if m.Revision != "" {
		s += " Revision " + m.Revision + "."
	}
	return s
}

func (r *Report) tableRows() [][]string {
	rows := make([][]string, len(r.Lines))
	for i := range r.Lines {
		l := &r.Lines[i]
		what := l.What
		if l.Versus != "" {
			what += " / " + l.Versus
		}
		rows[i] = []string{
			l.ID, what, figure(l.BaselineMedian, l.Unit), figure(l.MeasuredMedian, l.Unit), ratio(l.Ratio),
			l.Rule.bound(l.Rule.Must, l.Unit), l.Rule.bound(l.Rule.Goal, l.Unit), string(l.Verdict),
		}
	}
	return rows
}

func (r *Report) detailRows() [][]string {
	var rows [][]string
	for i := range r.Lines {
		l := &r.Lines[i]
		if len(l.Measured) == 0 || len(l.Measured) == 1 && l.Latency == nil && l.Usage == nil {
			continue
		}
		row := slices.Repeat([]string{"-"}, len(detailHead))
		row[0] = l.ID
		if l.Latency != nil {
			row[1], row[2], row[3] = short(l.Latency.P50), short(l.Latency.P99), short(l.Latency.P999)
		}
		if l.Usage != nil {
			row[4], row[5], row[6] = short(l.Usage.Server), short(l.Usage.Postgres), short(l.Usage.Load)
			row[7] = short(l.Usage.PeakMiB)
		}
		row[8] = l.Measured.spread()
		if len(l.Baseline) > 0 {
			row[8] = l.Baseline.spread() + " → " + row[8]
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *Report) notes() []string {
	var notes []string
	for i := range r.Lines {
		l := &r.Lines[i]
		for _, text := range append([]string{l.Failed, l.Missing}, l.Notes...) {
			if text != "" {
				notes = append(notes, l.ID+": "+strings.ReplaceAll(text, "\n", " "))
			}
		}
	}
	return notes
}

// spread is the lowest and the highest of the rounds.
func (s Series) spread() string {
	return short(slices.Min(s)) + "–" + short(slices.Max(s))
}

func (r *Rule) bound(value float64, unit string) string {
	if value == 0 {
		return "-"
	}
	sign := "≥ "
	if r.AtMost {
		sign = "≤ "
	}
	if r.OfValue {
		return sign + strconv.FormatFloat(value, 'f', -1, 64) + " " + unit
	}
	return sign + strconv.FormatFloat(value, 'f', -1, 64)
}

func figure(value float64, unit string) string {
	if value == 0 {
		return "-"
	}
	return short(value) + " " + unit
}

func ratio(value float64) string {
	if value == 0 {
		return "-"
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}

// short prints three digits, or all before the point, with commas between thousands.
func short(value float64) string {
	if value < 1000 {
		decimals := 2 - int(math.Floor(math.Log10(max(value, 0.01))))
		return strconv.FormatFloat(value, 'f', min(max(decimals, 0), 3), 64)
	}
	digits := strconv.FormatFloat(value, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
