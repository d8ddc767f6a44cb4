package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"passbook/internal/pgtest"
)

// pressTab makes bash complete the last word of a command line, given as arguments. Its first two functions replace the
// package bash-completion, the third replaces readline.
const pressTab = `
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
__ltrim_colon_completions() { :; }
compopt() { :; }
source <("$1" completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_server
printf '%s\n' "${COMPREPLY[@]}"`

func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	database := "DATABASE_URL=" + pgtest.URL(t)
	binary := build(t)
	p := launch(t, binary, database, "PASSBOOK_AUTH=keys")
	p.awaitReady(t, time.Minute)
	key := ""
	for _, args := range [][]string{
		{"keys", "create", "--name", "old", "--scope", "metrics:read"},
		{"keys", "revoke", "old"},
		{"keys", "create", "--name", "shop", "--scope", "accounts:write"},
		{"keys", "create", "--name", "ops", "--scope", "projections:read"},
	} {
		code, stdout, stderr := invoke(t.Context(), args, database, "HOME=/")
		if code != exitOK {
			t.Fatalf("%v: %s", args, stderr)
		}
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		key = lines[len(lines)-1]
	}
	running := []string{database, "PASSBOOK_ADDR=" + strings.TrimPrefix(p.base, "http://"), "PASSBOOK_KEY=" + key, "HOME=/"}
	nothing := []string{"DATABASE_URL=postgres://u@127.0.0.1:1/x", "PASSBOOK_ADDR=127.0.0.1:1", "HOME=/"}
	for _, test := range []struct {
		line string
		env  []string
		want string
	}{
		{"keys create --name shop --scope accounts:", running, "read write"}, // bash splits words at colons,
		{"keys create --name x --scope accounts:write --scope metr", nothing, "metrics:read"},
		{"keys revoke ", running, "ops shop"},
		{"keys revoke sh", running, "shop"},
		{"keys revoke shop ", running, ""},
		{"keys revoke ", nothing, ""},
		{"keys revoke ", []string{"PASSBOOK_DATA_DIR=" + filepath.Join(t.TempDir(), "none"), "HOME=/"}, ""},
		{"keys create --name ", running, ""},
		{"replay ", running, "balances holds stats totals transactions"},
		{"replay --follow t", running, "totals transactions"},
		{"replay balances ", running, ""},
		{"replay ", nothing, ""},
		{"replay ", []string{running[1], "HOME=/"}, ""}, // without a key
		{"replay --server " + p.base + " b", append(slices.Clone(nothing), "PASSBOOK_KEY="+key), "balances"},
	} {
		cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-c", pressTab, "bash", binary}, strings.Split(test.line, " ")...)...)
		cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, test.env...)
		cmd.Dir = t.TempDir()
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 {
			t.Fatalf("%s: %v %s", test.line, err, &errs)
		}
		got := strings.Fields(out.String())
		slices.Sort(got)
		if strings.Join(got, " ") != test.want {
			t.Errorf("server %s<Tab>: %q, want %q", test.line, got, test.want)
		}
	}
}
