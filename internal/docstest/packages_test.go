package docstest

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table of packages in docs/development.md")

// packageRow is a line of the table: a directory, what its package hides, and its lines.
type packageRow struct {
	dir, hides string
	lines      int
}

var packageLine = regexp.MustCompile("^\\| `([^`]+)` \\| (.*) \\| ([0-9,]+|generated) \\|$")

func (r packageRow) String() string {
	lines := "generated"
	if r.lines > 0 {
		lines = strconv.Itoa(r.lines)
		if n := len(lines); n > 3 {
			lines = lines[:n-3] + "," + lines[n-3:]
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s |", r.dir, r.hides, lines)
}

// TestPackagesAreListed compares the table in docs/development.md with the packages. Lines are rounded up to fifties, so that
// the table stays true for most commits. To rewrite it: go test ./internal/docstest -run Packages -update
func TestPackagesAreListed(t *testing.T) {
	t.Parallel()
	page := filepath.Join(root, "docs", "development.md")
	source, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- packages:begin -->\n", "<!-- packages:end -->"
	before, rest, ok := strings.Cut(string(source), begin)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no %s", page, begin)
	}
	listed := packageRows(table)
	there, synopses := packageSizes(t)
	if *update {
		text := before + begin + packageTable(updated(listed, there, synopses)) + end + after
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	for dir := range there {
		if !slices.ContainsFunc(listed, func(r packageRow) bool { return r.dir == dir }) {
			t.Errorf("%s does not list %s; run this test with -update", page, dir)
		}
	}
	for _, r := range listed {
		lines, ok := there[r.dir]
		if difference := max(lines-r.lines, r.lines-lines); !ok || difference > 100 && difference*10 > r.lines {
			t.Errorf("%s lists %s with %d lines; it has %d; run this test with -update", page, r.dir, r.lines, lines)
		}
	}
}

func packageRows(table string) []packageRow {
	var rows []packageRow
	for line := range strings.Lines(table) {
		if m := packageLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			lines, _ := strconv.Atoi(strings.ReplaceAll(m[3], ",", "")) // generated is 0
			rows = append(rows, packageRow{m[1], m[2], lines})
		}
	}
	return rows
}

func packageTable(rows []packageRow) string {
	var b strings.Builder
	b.WriteString("| package | what it hides | lines |\n|---|---|---:|\n")
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// updated returns the rows of the existing packages; new ones follow those that share most of their path.
func updated(listed []packageRow, there map[string]int, synopses map[string]string) []packageRow {
	rows := slices.DeleteFunc(listed, func(r packageRow) bool { _, ok := there[r.dir]; return !ok })
	for _, dir := range slices.Sorted(maps.Keys(there)) {
		if at := slices.IndexFunc(rows, func(r packageRow) bool { return r.dir == dir }); at >= 0 {
			rows[at].lines = there[dir]
			continue
		}
		at := len(rows)
		for parent := dir; parent != "." && at == len(rows); {
			parent = path.Dir(parent)
			for i, r := range rows {
				if strings.HasPrefix(r.dir+"/", parent+"/") {
					at = i + 1
				}
			}
		}
		rows = slices.Insert(rows, at, packageRow{dir, synopses[dir], there[dir]})
	}
	return rows
}

// packageSizes counts the lines of each package of the service and of test, without tests and generated code. Packages
// below a directory's internal count as part of it.
func packageSizes(t *testing.T) (lines map[string]int, synopses map[string]string) {
	t.Helper()
	lines, synopses = make(map[string]int), make(map[string]string)
	for _, file := range files(t, ".go") {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(filepath.ToSlash(name))
		if strings.HasSuffix(name, "_test.go") || otherModule(dir) {
			continue
		}
		if outer, _, ok := strings.Cut(dir, "/internal/"); ok {
			dir = outer
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			synopses[dir] = new(doc.Package).Synopsis(f.Doc.Text())
		}
		lines[dir] += 0
		if !ast.IsGenerated(f) {
			lines[dir] += bytes.Count(source, []byte("\n"))
		}
	}
	for dir, n := range lines {
		lines[dir] = (n + 49) / 50 * 50
	}
	return lines, synopses
}

// otherModule reports whether a directory belongs to a separate module that only checks something.
func otherModule(dir string) bool {
	for ; dir != "." && dir != "test"; dir = path.Dir(dir) {
		if _, err := os.Stat(filepath.Join(root, dir, "go.mod")); err == nil {
			return true
		}
	}
	return false
}
