package config

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadMasterKey(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"hex":            {strings.Repeat("0a", 32) + "\n", 0o600, ""},
		"base64":         {base64.StdEncoding.EncodeToString(make([]byte, 32)), 0o400, ""},
		"too short":      {"0a", 0o600, "32 random bytes"},
		"not a key":      {"secret", 0o600, "32 random bytes"},
		"others read it": {strings.Repeat("0a", 32), 0o640, "mode 0640"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		_, err := readMasterKey(path)
		if test.want == "" != (err == nil) || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := readMasterKey("/none/key"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
