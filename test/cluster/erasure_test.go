package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"passbook/internal/pgtest"
	"passbook/test/internal/machines"
)

// post sends a command and returns its response.
func (b *bed) post(p *process, path, body string) (answer struct {
	Account  string `json:"account_id"`
	Position int64  `json:"position"`
},
) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, p.url+path, strings.NewReader(body))
	b.check(err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := p.client.Do(request)
	b.check(err)
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode >= 300 {
		b.t.Fatalf("%s: %d, %v", path, response.StatusCode, err)
	}
	return answer
}

// emptyDatabase returns the URL of a database without tables.
func emptyDatabase(b *bed) string {
	b.t.Helper()
	pool := pgtest.New(b.t)
	_, err := pool.Exec(b.t.Context(), "drop schema public cascade; create schema public")
	b.check(err)
	return pool.Config().ConnString()
}

// TestErasureReachesFollowers erases a person, and looks for the person's text in dumps of the primary's and the follower's database, in
// the files of the stream, and in the logs of both servers.
func TestErasureReachesFollowers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	dir := t.TempDir()
	server, master := filepath.Join(dir, "server"), filepath.Join(dir, "master.key")
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", server, "./cmd/server")
	build.Dir = "../.." // the module of the service
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.check(os.WriteFile(master, []byte(strings.Repeat("5a", 32)), 0o600))
	databases := []string{pgtest.URL(t), pgtest.URL(t)}
	keys := emptyDatabase(b)
	start := func(name, database string, args []string, env ...string) *process {
		p, err := newProcess(t.Context(), machines.Local, name, dir, server, args, append(env, "DATABASE_URL="+database,
			"PASSBOOK_SUBJECT_MASTER_KEY_FILE="+master, "PASSBOOK_SUBJECT_KEYS_DATABASE_URL="+keys)...)
		b.check(err)
		b.check(p.start())
		t.Cleanup(p.stop)
		b.await(name+" is ready", func() bool { return p.ready(t.Context()) })
		return p
	}
	primary := start("primary", databases[0], nil, "PASSBOOK_RELAY_NATS_URL="+b.node.URL, "PASSBOOK_RELAY_REPLICAS=1")
	follower := start("follower", databases[1], []string{"follow", b.node.URL})

	ada := b.post(primary, "/accounts", `{"owner":"Quillfeather","currency":"EUR","metadata":{"quillkey":"quillvalue"}}`).Account
	b.post(primary, "/accounts", `{"owner":"Other","currency":"EUR"}`)
	b.post(primary, "/deposits", fmt.Sprintf(`{"account_id":%q,"amount":"10","reference":"quillreference"}`, ada))
	last := b.post(primary, "/accounts/"+ada+"/suspend", `{"reason":"quillreason"}`).Position
	read := func(position int64) string {
		body, _ := follower.get(t.Context(), fmt.Sprintf("/accounts/%s?min_position=%d", ada, position))
		return string(body)
	}
	b.await("the follower has the name", func() bool { return strings.Contains(read(last), "Quillfeather") })
	if found := b.search(dir, databases[1]); len(found) != 1 || found[0] != "a database" { // its read models
		t.Errorf("before the erasure, the text is in %v", found)
	}

	last = b.post(primary, "/subjects/"+ada+"/erase", "").Position
	b.await("the follower has the erasure", func() bool { return strings.Contains(read(last), `"erased":true`) })
	b.await("the primary has it, too", func() bool { return primary.position(t.Context()) >= last })
	if found := b.search(dir, append(databases, keys)...); len(found) > 0 {
		t.Errorf("after the erasure, the text is in %v", found)
	}
	if got, _ := follower.get(t.Context(), "/accounts?owner_contains=other"); !strings.Contains(string(got), `"Other"`) {
		t.Errorf("the follower finds the other person no more: %s", got)
	}
}

// search returns where the text of TestErasureReachesFollowers is: in dumps of databases, and in files.
func (b *bed) search(dir string, databases ...string) (found []string) {
	b.t.Helper()
	text := regexp.MustCompile(`(?i)quill`)
	for _, database := range databases {
		dump, err := exec.CommandContext(context.WithoutCancel(b.t.Context()), "pg_dump", "--dbname="+database).Output()
		b.check(err)
		if text.Match(dump) {
			found = append(found, "a database")
		}
	}
	for _, root := range []string{dir, b.node.Dir()} {
		b.check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || entry.Name() == "server" {
				return err
			}
			content, err := os.ReadFile(path)
			if err == nil && text.Match(content) {
				found = append(found, path)
			}
			return err
		}))
	}
	return found
}
