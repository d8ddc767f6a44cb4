// Package docstest checks that the documents are true: it runs the commands of README.md, docs/quickstart.md, docs/api.md and
// docs/tutorial.md; links, make targets, routes, settings, tests and paths that a document names must exist.
//
// The conventions are few. Every bash or sh block of these four is run, in order and in one bash, against the real binary;
// http://127.0.0.1:8080 stands for its address. A text block directly after such a block is its output, with … for what
// differs from run to run; a block without one prints nothing. A comment <!-- not-run: reason --> before a block excludes
// it; that is for the few that start services.
package docstest

import (
	"bytes"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"go.uber.org/goleak"

	"passbook/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// root is the directory of the repository.
const root = "../.."

// notOurs are directories with files of other projects or of tools.
var notOurs = []string{".git", ".cache", "bin", "dist", "node_modules", "vendor"}

// files returns the repository's files with a suffix, as paths from this directory.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(notOurs, entry.Name()):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, suffix):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("there is no file *%s", suffix)
	}
	return found
}

// document is a Markdown file, parsed.
type document struct {
	path   string
	source []byte
	tree   ast.Node
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

func read(t *testing.T, path string) document {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(path, source)
}

func parsed(path string, source []byte) document {
	return document{path: path, source: source, tree: markdown.Parser().Parse(text.NewReader(source))}
}

func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	for _, path := range files(t, ".md") {
		all = append(all, read(t, path))
	}
	return all
}

func readme(t *testing.T) document {
	t.Helper()
	return read(t, filepath.Join(root, "README.md"))
}

// each calls visit for every node of the document.
func (d document) each(visit func(ast.Node)) {
	// The walker function returns no error.
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			visit(n)
		}
		return ast.WalkContinue, nil
	})
}

// spans returns the code spans, without their backticks.
func (d document) spans() []string {
	var all []string
	d.each(func(n ast.Node) {
		if n.Kind() != ast.KindCodeSpan {
			return
		}
		var span bytes.Buffer
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			if part, ok := c.(*ast.Text); ok {
				span.Write(part.Segment.Value(d.source))
			}
		}
		all = append(all, span.String())
	})
	return all
}

// code returns the code spans and the code blocks.
func (d document) code() []string {
	all := d.spans()
	d.each(func(n ast.Node) {
		if n.Kind() == ast.KindFencedCodeBlock || n.Kind() == ast.KindCodeBlock {
			all = append(all, d.lines(n))
		}
	})
	return all
}

func (d document) lines(n ast.Node) string { return string(n.Lines().Value(d.source)) }

// links returns where links and images lead.
func (d document) links() []string {
	var all []string
	d.each(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.Link:
			all = append(all, string(n.Destination))
		case *ast.Image:
			all = append(all, string(n.Destination))
		}
	})
	return all
}

// anchors returns the ids of the headings.
func (d document) anchors() []string {
	var all []string
	d.each(func(n ast.Node) {
		if id, ok := n.AttributeString("id"); ok && n.Kind() == ast.KindHeading {
			if id, ok := id.([]byte); ok {
				all = append(all, string(id))
			}
		}
	})
	return all
}

func TestLinksResolve(t *testing.T) {
	t.Parallel()
	for _, d := range documents(t) {
		for _, link := range d.links() {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: link to %s: %v", d.path, link, err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			target := d
			if u.Path != "" {
				path := filepath.Join(filepath.Dir(d.path), filepath.FromSlash(u.Path))
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s: link to %s: %v", d.path, link, err)
					continue
				}
				if filepath.Ext(path) == ".md" {
					target = read(t, path)
				}
			}
			if u.Fragment != "" && !slices.Contains(target.anchors(), u.Fragment) {
				t.Errorf("%s: link to %s: there is no such heading; there are %q", d.path, link, target.anchors())
			}
		}
	}
}

func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	index := read(t, filepath.Join(root, "docs", "adr", "README.md"))
	links := index.links()
	for _, path := range files(t, ".md") {
		name := filepath.Base(path)
		if filepath.Dir(path) == filepath.Dir(index.path) && name != "README.md" && !slices.Contains(links, name) {
			t.Errorf("%s does not list %s", index.path, name)
		}
	}
}

// submatches returns the matches of the expression's first group in all texts.
func submatches(expression *regexp.Regexp, texts ...string) map[string]bool {
	found := make(map[string]bool)
	for _, s := range texts {
		for _, m := range expression.FindAllStringSubmatch(s, -1) {
			found[m[1]] = true
		}
	}
	return found
}

func TestMakeTargetsExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := submatches(regexp.MustCompile(`(?m)^([a-z][a-z-]*):`), string(makefile))
	named := regexp.MustCompile(`\bmake ([a-z][a-z-]*)`)
	for _, d := range documents(t) {
		for target := range submatches(named, d.code()...) {
			if !targets[target] {
				t.Errorf("%s names make %s, which is not a target of the Makefile", d.path, target)
			}
		}
	}
}

func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	var sources []string
	for _, path := range files(t, "_test.go") {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, string(source))
	}
	tests := submatches(regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`), sources...)
	named := regexp.MustCompile(`^((?:Test|Fuzz)\w+)$`)
	for _, d := range documents(t) {
		for test := range submatches(named, d.spans()...) {
			if !tests[test] {
				t.Errorf("%s names %s, which is not a test", d.path, test)
			}
		}
	}
}

func TestNamedPathsExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`^((?:\.ci|api|client|cmd|docs|examples|internal|migrations|scripts|test|web)(?:/[\w.-]+)*)$`)
	for _, d := range documents(t) {
		for path := range submatches(named, d.spans()...) {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(path))); err != nil {
				t.Errorf("%s names %s: %v", d.path, path, err)
			}
		}
	}
}

// same fails the test for each name that is documented but does not exist, or the other way round.
func same(t *testing.T, d document, what string, documented, there map[string]bool) {
	t.Helper()
	for name := range documented {
		if !there[name] {
			t.Errorf("%s lists %s %s, which does not exist", d.path, what, name)
		}
	}
	for name := range there {
		if !documented[name] {
			t.Errorf("%s does not list %s %s", d.path, what, name)
		}
	}
}

// TestReadmeIsShort limits the README's length, and compares its Go code with the guide's, which is run.
func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	d := readme(t)
	if words := len(strings.Fields(string(d.source))); words > 1000 {
		t.Errorf("%s has %d words; at most 1000 are allowed", d.path, words)
	}
	flat := func(code string) string { return strings.ReplaceAll(code, "\t", "") }
	guide := flat(strings.Join(read(t, filepath.Join(root, "docs", "guide", "add-a-projection.md")).code(), "\n"))
	shown := 0
	for n := d.tree.FirstChild(); n != nil; n = n.NextSibling() {
		if d.language(n) != "go" {
			continue
		}
		shown++
		for part := range strings.SplitSeq(strings.TrimSpace(d.lines(n)), "\n\n") {
			if !strings.Contains(guide, flat(part)) {
				t.Errorf("%s shows code that is not in the guide:\n%s", d.path, part)
			}
		}
	}
	if shown == 0 {
		t.Errorf("%s shows no Go code", d.path)
	}
}

// TestIndexListsEveryPage checks that the index links to every page.
func TestIndexListsEveryPage(t *testing.T) {
	t.Parallel()
	index := read(t, filepath.Join(root, "docs", "README.md"))
	links := index.links()
	for _, path := range files(t, ".md") {
		page, err := filepath.Rel(filepath.Dir(index.path), path)
		if err == nil && !strings.HasPrefix(page, "..") && !strings.HasPrefix(page, "adr/") && page != "README.md" && !slices.Contains(links, page) {
			t.Errorf("%s does not list %s", index.path, page)
		}
	}
}

func TestEveryRouteIsListed(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	routes := make(map[string]bool)
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	d := read(t, filepath.Join(root, "docs", "routes.md"))
	same(t, d, "the route", submatches(regexp.MustCompile(`^((?:GET|POST|PUT|PATCH|DELETE) /\S*)$`), d.spans()...), routes)
}
