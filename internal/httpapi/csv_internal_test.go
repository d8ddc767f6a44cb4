package httpapi

import (
	"bytes"
	"encoding/csv"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHarmless(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "rent": "rent", "12.34": "12.34", "-12.34": "-12.34", "-12": "-12", "a=1": "a=1", "'x": "'x",
		"=1+1": "'=1+1", "+49 228": "'+49 228", "-2+3": "'-2+3", "-": "'-", "-1.": "'-1.", "@SUM(A1)": "'@SUM(A1)",
		"\t=1": "\t'=1", "\r=1": "\n'=1", "\n=1": "\n'=1", "a\r\nb\rc": "a\nb\nc", "＝1": "'＝1", "a;=1": "a;'=1", ";;-1+2": ";;'-1+2",
		" =1": " '=1", "\ufeff=1": "\ufeff'=1", "\u200e@x": "\u200e'@x", "\x01=1": "\x01'=1", "a\tb\n+1": "a\tb\n'+1", "a-b": "a-b", "a; b": "a; b",
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestTableRoundTrip reads with package csv what a table wrote, for any cells: the text is RFC 4180, and no cell is a formula.
func TestTableRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching("[=+@,\"'\r\n\t -]{0,4}[a-z0-9.]{0,3}"))
		columns := rapid.IntRange(1, 5).Draw(t, "columns")
		rows := rapid.SliceOfN(rapid.SliceOfN(text, columns, columns), 1, 5).Draw(t, "rows")
		var want [][]string
		table := newTable(append([]string{"first"}, make([]string, columns)...))
		for _, row := range rows {
			expected := []string{"x"}
			for _, cell := range row {
				expected = append(expected, harmless(cell))
			}
			want = append(want, expected)
			table.row(append([]string{"x"}, row...)...)
		}
		written := table.take()
		for line := range strings.SplitSeq(string(written), "\n") {
			if line != "" && !strings.HasSuffix(line, "\r") {
				t.Fatalf("a line ends without CR: %q", line)
			}
		}
		got, err := csv.NewReader(bytes.NewReader(written)).ReadAll()
		if err != nil || !reflect.DeepEqual(got[1:], want) {
			t.Fatalf("%q was read back as %q, %v; want %q", written, got, err, want)
		}
		for _, row := range got[1:] {
			for _, cell := range row {
				for part := range strings.FieldsFuncSeq(cell, func(r rune) bool { return strings.ContainsRune(";|\t\n", r) }) {
					part = strings.TrimSpace(part)
					if part != "" && strings.ContainsRune("=+-@", rune(part[0])) && !isDecimal(cell) {
						t.Fatalf("%q is a formula", cell)
					}
				}
			}
		}
	})
}
