package client_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAnotherModule follows README.md in a separate module.
func TestAnotherModule(t *testing.T) {
	t.Parallel()
	blocks := readmeBlocks(t)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module other\n\ngo 1.26.0\n", "main.go": blocks["go"][0]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var said string
	for _, script := range blocks["bash"] {
		script = strings.NewReplacer("../passbook", root, "http://127.0.0.1:8080", server).Replace(script)
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
		cmd.Dir, cmd.Stderr = dir, new(strings.Builder)
		// The caller's flags and workspace do not apply to another module.
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, cmd.Stderr)
		}
		said = string(out)
	}
	if said != blocks["text"][0] {
		t.Errorf("it printed %q, not %q", said, blocks["text"][0])
	}
}

// readmeBlocks is the code in README.md, by language.
func readmeBlocks(t *testing.T) map[string][]string {
	t.Helper()
	source, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string][]string)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(source), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	if len(blocks["go"]) != 1 || len(blocks["bash"]) != 2 || len(blocks["text"]) != 1 {
		t.Fatalf("README.md has other blocks than this test knows: %v", blocks)
	}
	return blocks
}

// TestGoDoc checks what go doc shows of the package: it begins with its purpose, and has no generated names.
func TestGoDoc(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "doc", "-all", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, text, _ := strings.Cut(string(out), "\n\n"); !strings.HasPrefix(text, "Package client is for ") {
		t.Errorf("it begins with %.120q", text)
	}
	made := regexp.MustCompile(`\b(N\d+|\w+JSON(Request)?Body|(Open|Close|Get|Suspend|Reactivate)\w+Params|CommandCommand\w*|Code generated)\b`)
	if found := made.FindAllString(string(out), -1); len(found) > 0 {
		t.Errorf("it has %q", found)
	}
}
