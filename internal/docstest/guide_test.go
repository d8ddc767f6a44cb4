package docstest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuideAddsAProjection puts the guide's blocks where it says they belong, in an overlay that does not change the
// repository, and runs the guide's own test on a database with the guide's migration.
func TestGuideAddsAProjection(t *testing.T) {
	t.Parallel()
	d := read(t, filepath.Join(root, "docs", "guide", "add-a-projection.md"))
	replace := make(map[string]string)
	place := func(path, source string) {
		repository, err := filepath.Abs(root)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), filepath.Base(path))
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(repository, filepath.FromSlash(path))] = file
	}
	for n := d.tree.FirstChild(); n != nil; n = n.NextSibling() {
		switch source := d.lines(n); {
		case d.language(n) == "sql":
			place("migrations/99999_daily_deposits.sql", source)
		case d.language(n) == "go" && strings.HasPrefix(source, "package readmodel_test\n"):
			place("internal/readmodel/daily_deposits_test.go", source)
		case d.language(n) == "go" && strings.HasPrefix(source, "package verify\n"):
			place("internal/verify/daily_deposits.go", source)
		case d.language(n) == "go":
			place("internal/readmodel/daily_deposits.go", source)
		case d.language(n) == "text" && strings.Contains(source, "dailyDepositsSQL, "):
			const list = "internal/verify/checks.go"
			checks, err := os.ReadFile(filepath.Join(root, list))
			if err != nil {
				t.Fatal(err)
			}
			place(list, strings.Replace(string(checks), "var checks = []check{\n", "var checks = []check{\n"+source, 1))
		}
	}
	if len(replace) != 5 {
		t.Fatalf("the guide has %d files, want 5", len(replace))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-race", "-count=1", "-v", "-overlay", file, "-run", "^TestDailyDeposits$", "./internal/readmodel")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDailyDeposits") {
		t.Errorf("the guide's test: %v\n%s", err, out)
	}
}
