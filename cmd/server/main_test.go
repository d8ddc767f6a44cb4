package main

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"

	"passbook/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		// out and err are pieces that must be on stdout and stderr.
		out, err []string
	}{
		"version":         {args: []string{"version"}, out: []string{"passbook dev"}},
		"help":            {args: []string{"--help"}, out: []string{"DATABASE_URL", "PASSBOOK_QUERY_DATABASE_URL", "PASSBOOK_DATA_DIR", "PASSBOOK_ADDR", "PASSBOOK_AUTH", "PASSBOOK_INSECURE", "PASSBOOK_LOG_LEVEL", "PASSBOOK_LOG_FORMAT", "127.0.0.1:8080", "migrate", "healthcheck", "version"}},
		"unknown command": {args: []string{"sevre"}, code: 2, err: []string{`unknown command "sevre"`, "--help"}},
		"unknown flag":    {args: []string{"--adr", "x"}, code: 2, err: []string{"unknown flag: --adr"}},
		"open to all": {
			env: map[string]string{"PASSBOOK_ADDR": "0.0.0.0:8080"}, code: 2,
			err: []string{"PASSBOOK_ADDR", "127.0.0.1", "PASSBOOK_INSECURE=true"},
		},
		"open to all, every host": {env: map[string]string{"PASSBOOK_ADDR": ":8080"}, code: 2, err: []string{"PASSBOOK_INSECURE=true"}},
		"everything wrong at once": {
			args: []string{"--log-level", "loud"},
			env: map[string]string{
				"PASSBOOK_ADDR": "8080", "PASSBOOK_AUTH": "magic", "PASSBOOK_LOG_FORMAT": "xml",
				"DATABASE_URL": "postgres://u:secret@host:notaport/db",
			},
			code: 2,
			err:  []string{`"8080" is not of the form host:port`, `"magic"`, `"xml"`, `"loud"`, "DATABASE_URL"},
		},
		"a replica of nothing": {env: map[string]string{"PASSBOOK_QUERY_DATABASE_URL": "postgres://h/db"}, code: 2, err: []string{"needs DATABASE_URL"}},
		"no home":              {args: []string{"--data-dir", ""}, env: map[string]string{"PASSBOOK_ADDR": "nonsense"}, code: 2, err: []string{"nonsense"}},
		"health of nobody":     {args: []string{"healthcheck", "--addr", "127.0.0.1:1"}, code: 1, err: []string{"refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"HOME": t.TempDir()}
			maps.Copy(env, test.env)
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), test.args, func(k string) string { return env[k] }, &stdout, &stderr)
			if code != test.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, test.code, &stderr)
			}
			for _, want := range test.out {
				if !strings.Contains(stdout.String(), want) {
					t.Errorf("stdout has no %q:\n%s", want, &stdout)
				}
			}
			for _, want := range test.err {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr has no %q:\n%s", want, &stderr)
				}
			}
			if strings.Contains(stdout.String()+stderr.String(), "secret") {
				t.Error("a password was printed")
			}
		})
	}
}
