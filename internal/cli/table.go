package cli

import (
	"io"
	"strings"

	"github.com/rivo/uniseg"
)

// table is rows for people, in columns as wide as their widest cell on a terminal. A header that begins with > is that of a
// column of numbers, which are aligned to the right.
type table struct{ rows [][]string }

// newTable returns a table with headers separated by tabs.
func newTable(headers string) *table { return &table{rows: [][]string{strings.Split(headers, "\t")}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print(out io.Writer) error {
	right := make([]bool, len(t.rows[0]))
	widths := make([]int, len(t.rows[0]))
	for i, header := range t.rows[0] {
		t.rows[0][i], right[i] = strings.CutPrefix(header, ">")
	}
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	var text strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			blank := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
			if right[i] {
				cell, blank = blank+cell, ""
			}
			line.WriteString(cell + blank + "  ")
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}
