package main

import (
	"strings"
	"testing"
)

// TestHelpShowsWhatBelongsToTheCommand checks that a command's help has its own flags and the settings that it reads, and no others.
func TestHelpShowsWhatBelongsToTheCommand(t *testing.T) {
	t.Parallel()
	server := []string{"--database-url", "--oidc-issuer", "--rate-limit", "--max-streams", "--addr"}
	for line, test := range map[string]struct{ has, not []string }{
		"--help":               {has: append([]string{"--key-file", "accounts", "demo"}, server...)},
		"serve --help":         {has: server},
		"help accounts":        {has: []string{"--limit", "--json", "--server", "--key", "--addr"}, not: []string{"--database-url", "--oidc-issuer", "--rate-limit", "--pg-bin"}},
		"accounts --help":      {has: []string{"--limit"}, not: []string{"--database-url"}},
		"help status":          {has: []string{"--watch", "--key-file"}, not: []string{"--data-dir", "--rate-limit"}},
		"help verify":          {has: []string{"--database-url", "--data-dir", "--log-level"}, not: []string{"--key-file", "--hosts", "--rate-limit"}},
		"help keys create":     {has: []string{"--scope", "--database-url-file"}, not: []string{"--key-file", "--oidc-issuer"}},
		"help relay":           {has: []string{"--relay-nats-url", "--database-url", "--nats-ca", "--addr", "--event-source"}, not: []string{"--rate-limit", "--oidc-issuer", "--query-database-url", "--key-file", "--hosts"}},
		"demo --help":          {has: []string{"--seed", "--pg-bin", "--data-dir"}, not: []string{"--rate-limit", "--database-url", "--oidc-issuer", "--relay-nats-url", "--key-file"}},
		"help subjects rewrap": {has: []string{"--subject-master-key-file", "--subject-keys-database-url"}, not: []string{"--server", "--database-url", "--rate-limit"}},
		"help backup":          {has: []string{"--data-dir"}, not: []string{"--addr", "--oidc-issuer"}},
		"help version":         {has: []string{"Print the version"}, not: []string{"--database-url", "--addr", "Settings"}},
		"completion bash -h":   {not: []string{"--database-url", "--rate-limit"}},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := invoke(t.Context(), strings.Fields(line), "HOME=/")
			if code != exitOK || stderr != "" {
				t.Errorf("%d %s", code, stderr)
			}
			for _, want := range test.has {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			for _, other := range test.not {
				if strings.Contains(stdout, other+" ") {
					t.Errorf("%q in\n%s", other, stdout)
				}
			}
		})
	}
}

// TestMisuse checks that each mistake on the command line exits with 2, is explained on stderr, and names the help to read.
func TestMisuse(t *testing.T) {
	t.Parallel()
	const id = "0198c1f0-0000-7000-8000-000000000001"
	for line, want := range map[string]string{
		"acounts":                            `Did you mean "server accounts"?`,
		"accounts --stat x":                  `Run "server accounts --help"`,
		"accounts --limit 0":                 "--limit: at least 1",
		"keys creat":                         `Did you mean "server keys create"?`,
		"statement ada":                      "server accounts finds accounts by the owner's name",
		"hold " + id:                         "the arguments are ACCOUNT and AMOUNT",
		"status --server localhost":          "is not a URL such as http://127.0.0.1:8080",
		"transactions --metadata x":          `Run "server transactions --help"`,
		"transactions --from 1.2.2026":       "a date such as 2026-01-31",
		"accounts --server http://x --jsn":   "unknown flag: --jsn",
		"statement " + id + " --json --csv":  "csv",
		"accounts --status open":             "active, suspended or closed",
		"holds " + id + " --status finished": "open, captured, released or expired",

		// A sign makes a flag of an amount.
		"deposit " + id + " -5":                 "amounts and positions are positive, and -5 is not",
		"transfer " + id + " " + id + " -12.50": "and -12.50 is not",
		"reverse -7":                            "and -7 is not",
		"hold " + id + " -x":                    "unknown shorthand flag",

		// What a shell makes of a variable that is not set, and would drop a precondition.
		"deposit " + id + " 5 --idempotency-key=":                         "--idempotency-key: the value is empty",
		"deposit " + id + " 5 --if-version -1":                            "--if-version: at least 1",
		"transfer " + id + " " + id + " 5 --currency=":                    "--currency: the value is empty",
		"reverse 7 --amount=":                                             "--amount: the value is empty",
		"change " + id + " --owner=":                                      "--owner: the value is empty",
		"tail --account=":                                                 "--account: the value is empty",
		"accounts open Ada EUR --id 00000000-0000-0000-0000-000000000000": "--id 00000000-0000-0000-0000-000000000000 is the nil UUID",
		"accounts show nope":                                              `ACCOUNT "nope" is not a UUID`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := invoke(t.Context(), strings.Fields(line), "HOME=/", "PASSBOOK_ADDR=127.0.0.1:1")
			if code != exitSettings || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "--help") || strings.Contains(stderr, "no response") {
				t.Errorf("%d %s%s", code, stdout, stderr)
			}
		})
	}
}
