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
	key, link, open := filepath.Join(dir, "key"), filepath.Join(dir, "link"), filepath.Join(dir, "open")
	for path, mode := range map[string]os.FileMode{key: 0o600, open: 0o640} {
		if err := os.WriteFile(path, []byte(private+"\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(key, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, key, checkpoints, want string }{
		{"without checkpoints", key, "", ""},
		{"with a file that does not exist", key, filepath.Join(dir, "checkpoints"), ""},
		{"with the key's own file", key, key, "is the file of the signing key"},
		{"with a link to it", key, link, "is the file of the signing key"},
		{"with a key that others may read", open, "", "mode 0640"},
	} {
		s := config.New([]string{"HOME=/", "PASSBOOK_SIGNING_KEY_FILE=" + test.key, "PASSBOOK_CHECKPOINT_FILE=" + test.checkpoints}, "dev")
		s.Register(pflag.NewFlagSet("", pflag.ContinueOnError))
		_, err := s.Load(io.Discard)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// TestCheckpointURL expects only URLs that can be posted to, and only with a key. No error has the URL, which may contain a password.
func TestCheckpointURL(t *testing.T) {
	t.Parallel()
	private, _, err := note.GenerateKey(nil, "bank.example/passbook")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(private), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ url, key, want string }{
		{"https://passbook:secret@auditor.example/checkpoints", key, ""},
		{"http://127.0.0.1:9/", key, ""},
		{"https://passbook:secret@auditor.example/", "", "only with a PASSBOOK_SIGNING_KEY_FILE"},
		{"ftp://passbook:secret@auditor.example/", key, "not an http:// or https:// URL"},
		{"auditor.example?secret", key, "not an http:// or https:// URL"},
		{"https://:secret\x7f@", key, "not an http:// or https:// URL"},
	} {
		s := config.New([]string{"HOME=/", "PASSBOOK_SIGNING_KEY_FILE=" + test.key, "PASSBOOK_CHECKPOINT_URL=" + test.url}, "dev")
		s.Register(pflag.NewFlagSet("", pflag.ContinueOnError))
		c, err := s.Load(io.Discard)
		if test.want == "" && (err != nil || c.CheckpointURL != test.url) ||
			test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v, want %q", test.url, err, test.want)
		}
	}
}
