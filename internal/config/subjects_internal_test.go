package config

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadMasterKeys(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
		keys int
	}{
		"hex":            {strings.Repeat("0a", 32) + "\n", 0o600, "", 1},
		"base64":         {base64.StdEncoding.EncodeToString(make([]byte, 32)), 0o400, "", 1},
		"several":        {"# new\n" + strings.Repeat("0b", 32) + "\r\n\n# old\n" + strings.Repeat("0a", 32), 0o600, "", 2},
		"too short":      {"0a", 0o600, "32 random bytes", 0},
		"not a key":      {"secret", 0o600, "32 random bytes", 0},
		"one is no key":  {strings.Repeat("0a", 32) + "\nsecret\n", 0o600, "32 random bytes", 0},
		"empty":          {"# none\n", 0o600, "has no key", 0},
		"others read it": {strings.Repeat("0a", 32), 0o640, "mode 0640", 0},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		keys, err := readMasterKeys(path)
		if len(keys) != test.keys {
			t.Errorf("%s: %d keys", name, len(keys))
		}
		if test.want == "" != (err == nil) || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readMasterKeys("/none/key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
