package config_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"golang.org/x/mod/sumdb/note"

	"passbook/internal/config"
)

// TestSigningFiles loads the files that signing needs.
func TestSigningFiles(t *testing.T) {
	t.Parallel()
	private, _, err := note.GenerateKey(nil, "bank.example/passbook")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, link := filepath.Join(dir, "key"), filepath.Join(dir, "link")
	if err := os.WriteFile(key, []byte(private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, checkpoints, want string }{
		{"without checkpoints", "", ""},
		{"with a file that does not exist", filepath.Join(dir, "checkpoints"), ""},
		{"with the key's own file", key, "is the file of the signing key"},
		{"with a link to it", link, "is the file of the signing key"},
	} {
		s := config.New([]string{"HOME=/", "PASSBOOK_SIGNING_KEY_FILE=" + key, "PASSBOOK_CHECKPOINT_FILE=" + test.checkpoints}, "dev")
		s.Register(pflag.NewFlagSet("", pflag.ContinueOnError))
		_, err := s.Load(io.Discard)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
