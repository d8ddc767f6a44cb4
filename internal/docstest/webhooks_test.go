package docstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWebhookReceiver compares the receiver in the documentation with the example, which is run.
func TestWebhookReceiver(t *testing.T) {
	t.Parallel()
	d := read(t, filepath.Join(root, "docs", "webhooks.md"))
	example, err := os.ReadFile(filepath.Join(root, "examples", "webhook", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for n := d.tree.FirstChild(); n != nil; n = n.NextSibling() {
		if d.language(n) != "go" {
			continue
		}
		if shown++; !strings.Contains(string(example), d.lines(n)) {
			t.Errorf("%s shows code that is not in the example:\n%s", d.path, d.lines(n))
		}
	}
	if shown == 0 {
		t.Errorf("%s shows no Go code", d.path)
	}
}
