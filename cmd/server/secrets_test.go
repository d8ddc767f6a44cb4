package main

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretsOnTheCommandLine passes secrets where every user of the machine can see them (/proc/PID/cmdline).
func TestSecretsOnTheCommandLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("pbk_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const away = "postgres://u@127.0.0.1:1/x?connect_timeout=1"
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		flag string // that the warning names
	}{
		"a key":                         {args: []string{"--key", "pbk_secret"}, flag: "--key"},
		"a key in the environment":      {env: map[string]string{"PASSBOOK_KEY": "pbk_secret"}},
		"a key in a file":               {args: []string{"--key-file", file}},
		"a database's password":         {args: []string{"--database-url", strings.Replace(away, "u@", "u:pbk_secret@", 1)}, flag: "--database-url"},
		"a database without password":   {args: []string{"--database-url", away}},
		"a password as a keyword":       {args: []string{"--database-url", "host=127.0.0.1 port=1 password=pbk_secret"}, flag: "--database-url"},
		"a password in the environment": {env: map[string]string{"DATABASE_URL": strings.Replace(away, "u@", "u:pbk_secret@", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"HOME": t.TempDir(), "PASSBOOK_ADDR": "127.0.0.1:1"}
			maps.Copy(env, test.env)
			var stdout, stderr bytes.Buffer
			run(context.Background(), append([]string{"healthcheck"}, test.args...), environ(env), &stdout, &stderr)
			text := stderr.String()
			if strings.Contains(text, "pbk_secret") || (test.flag != "") != strings.Contains(text, "a secret on the command line") ||
				!strings.Contains(text, test.flag) {
				t.Errorf("%s", text)
			}
		})
	}
}
