package docstest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/yuin/goldmark/ast"
)

const (
	// documentedBase is the service's URL in the README.
	documentedBase = "http://127.0.0.1:8080"
	// maxNotRun bounds the blocks that are shown but not run.
	maxNotRun = 3
	// startLimit bounds the start of the service with an empty data directory; scriptLimit bounds a whole document.
	startLimit, scriptLimit = 2 * time.Minute, 5 * time.Minute
)

// block is one code block of a document that is to be run.
type block struct {
	script string
	// prints is its output according to the document, one entry per line.
	prints []string
}

var (
	notRun = regexp.MustCompile(`^<!-- not-run: \S.* -->\n*$`)
	// startsService matches the blocks that may be excluded.
	startsService = regexp.MustCompile(`\b(make run|docker compose|git clone)\b`)
)

// blocks returns the document's code blocks that are to be run.
func blocks(t *testing.T, d document) []block {
	t.Helper()
	var run []block
	skipped := 0
	for n := d.tree.FirstChild(); n != nil; n = n.NextSibling() {
		if language := d.language(n); language != "bash" && language != "sh" {
			continue
		}
		if comment, ok := n.PreviousSibling().(*ast.HTMLBlock); ok && notRun.MatchString(d.lines(comment)) {
			skipped++
			if !startsService.MatchString(d.lines(n)) {
				t.Errorf("%s: this block starts no service, so it must not be excluded:\n%s", d.path, d.lines(n))
			}
			continue
		}
		b := block{script: d.lines(n)}
		if d.language(n.NextSibling()) == "text" {
			b.prints = strings.Split(strings.TrimRight(d.lines(n.NextSibling()), "\n"), "\n")
		}
		run = append(run, b)
	}
	if skipped > maxNotRun {
		t.Errorf("%s: %d blocks are not run; %d are allowed", d.path, skipped, maxNotRun)
	}
	if len(run) == 0 {
		t.Fatalf("%s has no block to run", d.path)
	}
	return run
}

// language returns the language of a fenced code block, "" for anything else.
func (d document) language(n ast.Node) string {
	if code, ok := n.(*ast.FencedCodeBlock); ok {
		return string(code.Language(d.source))
	}
	return ""
}

// check returns what is wrong with a block's output, or "".
func (b block) check(printed string) string {
	var lines []string
	if printed = strings.TrimRight(printed, "\n"); printed != "" {
		lines = strings.Split(printed, "\n")
	}
	if len(lines) != len(b.prints) {
		return fmt.Sprintf("it prints %d lines, want %d", len(lines), len(b.prints))
	}
	for i, want := range b.prints {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".+") + "$"
		if !regexp.MustCompile(pattern).MatchString(lines[i]) {
			return fmt.Sprintf("line %d is not\n%s", i+1, want)
		}
	}
	return ""
}

// TestReadmeCommands runs the commands that the README and the binary itself suggest.
func TestReadmeCommands(t *testing.T) {
	t.Parallel()
	d := readme(t)
	binary := filepath.Join(t.TempDir(), "server")
	build := exec.Command("go", "build", "-race", "-o", binary, "./cmd/server")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	t.Run("settings", func(t *testing.T) {
		help, err := exec.Command(binary, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		d := read(t, filepath.Join(root, "docs", "settings.md"))
		same(t, d, "the setting",
			submatches(regexp.MustCompile(`^(DATABASE_URL(?:_FILE)?|PG_BIN|OTEL_EXPORTER_OTLP_ENDPOINT|PASSBOOK_[A-Z_]+)$`), d.spans()...),
			submatches(regexp.MustCompile(`\(([A-Z_]+); default`), string(help)))
	})

	out := start(t, binary)
	base := regexp.MustCompile(`http://[0-9.:]+`).FindString(out)
	// First, because the lines that the server prints assume an empty log.
	t.Run("announced lines", func(t *testing.T) {
		lines := regexp.MustCompile(`(?m)^  curl .*$`).FindAllString(out, -1)
		if len(lines) != 3 {
			t.Fatalf("the server prints %d lines to try, want 3:\n%s", len(lines), out)
		}
		if printed := bash(t, strings.Join(lines, "\n"), place{dir: t.TempDir()}); !strings.Contains(printed, `"balance":"12.34"`) {
			t.Errorf("the lines that the server prints do not end in a balance of 12.34:\n%s", printed)
		}
	})
	at := place{dir: t.TempDir()}
	t.Run("README", func(t *testing.T) { quickstart(t, d, base, at) })
	for _, page := range []string{"quickstart.md", "api.md", "ledger.md", "webhooks.md"} {
		t.Run(page, func(t *testing.T) { quickstart(t, read(t, filepath.Join(root, "docs", page)), base, at) })
	}
}

// quickstart runs the blocks of a document in one bash, with a line between their outputs.
func quickstart(t *testing.T, d document, base string, at place) {
	t.Helper()
	run := blocks(t, d)
	t.Helper()
	const border = "---- end of block ----"
	var script strings.Builder
	for _, b := range run {
		fmt.Fprintf(&script, "%s\nprintf '\\n%%s\\n' '%s'\n", b.script, border)
	}
	if !strings.Contains(script.String(), documentedBase) {
		t.Fatalf("%s does not name %s", d.path, documentedBase)
	}
	printed := bash(t, strings.ReplaceAll(script.String(), documentedBase, base), at)
	parts := strings.Split(printed, "\n"+border+"\n")
	for i, b := range run {
		if i == len(parts)-1 { // nothing follows the last border
			t.Fatalf("%s ended in this block:\n%s\nhaving printed\n%s", d.path, b.script, parts[i])
		}
		if problem := b.check(parts[i]); problem != "" {
			t.Errorf("this block does not print what %s says: %s\n\n%s\nIt prints\n%s", d.path, problem, b.script, parts[i])
		}
	}
}

// place is where a script runs.
type place struct {
	dir string
	env []string // beside PATH and HOME
}

// bash runs a script and returns its output. The test fails if the script fails or writes to standard error. Processes that
// it leaves running end with the test.
func bash(t *testing.T, script string, at place) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.WaitDelay = 30 * time.Second // for processes that a pipe leaves running, such as a curl with a time limit
	// Without the environment, so that neither a proxy nor a .curlrc interferes.
	cmd.Dir = at.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, at.env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // usually there is nothing left
	if err != nil || stderr.Len() > 0 {
		t.Errorf("bash: %v\n%s", err, &stderr)
	}
	return stdout.String()
}

// announcement collects the server's output, and signals when it contains the address.
type announcement struct {
	mu   sync.Mutex
	text strings.Builder
	once sync.Once
	made chan struct{}
}

func (a *announcement) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(p)
	if strings.Contains(a.text.String(), "Ctrl-C stops it") { // its last line
		a.once.Do(func() { close(a.made) })
	}
	return len(p), nil
}

func (a *announcement) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.String()
}

// passable makes a directory that other users can enter: if the tests run as root, PostgreSQL runs as one of them.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs the binary on a free port with a private PostgreSQL until the test ends, and returns its output once it
// responds.
func start(t *testing.T, binary string) string {
	t.Helper()
	dir := passable(t)
	said, complaints := &announcement{made: make(chan struct{})}, new(bytes.Buffer)
	cmd := exec.CommandContext(t.Context(), binary) // which is cancelled before the cleanup below
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), "DATABASE_URL=", "PASSBOOK_QUERY_DATABASE_URL=", "PASSBOOK_DATA_DIR="+dir,
		"PASSBOOK_ADDR=127.0.0.1:0", "PASSBOOK_LOG_LEVEL=warn")
	cmd.Stdout, cmd.Stderr = said, complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // logged below; a test that failed did so for another reason
		close(ended)
	}()
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("the server ended with %v; its output:\n%s%s", cmd.ProcessState, said, complaints)
		}
	})
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-said.made:
	case <-ended:
		t.Fatal("the server has ended")
	case <-limit.C:
		t.Fatalf("the server does not respond within %v", startLimit)
	}
	return said.String()
}
