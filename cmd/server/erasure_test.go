package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// The texts of a person. Each is nowhere else.
var zoe = []string{"Zoë Quillfeather", "zoe quillfeather", "quillfeather-salary", "quillfeather-room", "quillfeather-sorry", "quillfeather-label", "quillfeather-note", "quillfeather-key"}

// testbed is the database of a log, another of keys, and a master key.
type testbed struct {
	bin, log, keys string
	settings       []string
}

func newErasureTestbed(t *testing.T) *testbed {
	t.Helper()
	b := &testbed{bin: build(t), log: pgtest.URL(t)}
	b.keys = emptyDatabase(t, b.log, "_keys")
	file := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(file, []byte(strings.Repeat("0a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.settings = []string{"PASSBOOK_SUBJECT_MASTER_KEY_FILE=" + file, "PASSBOOK_SUBJECT_KEYS_DATABASE_URL=" + b.keys}
	return b
}

// emptyDatabase creates a database without tables beside another one.
func emptyDatabase(t *testing.T, beside, suffix string) string {
	t.Helper()
	u, err := url.Parse(beside)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/") + suffix
	u.Path = "/" + name
	exec := func(sql string) {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, beside)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	exec("create database " + name)
	t.Cleanup(func() { exec("drop database " + name + " with (force)") })
	return u.String()
}

func (b *testbed) launch(t *testing.T, log string) *process {
	t.Helper()
	p := launch(t, b.bin, append([]string{"DATABASE_URL=" + log}, b.settings...)...)
	p.awaitReady(t, 60*time.Second)
	return p
}

// holds reports which of the texts a text has.
func holds(text string, of []string) (found []string) {
	for _, one := range of {
		if strings.Contains(text, one) {
			found = append(found, one)
		}
	}
	return found
}

// dumpOf returns what pg_dump writes of a database.
func dumpOf(t *testing.T, database string, options ...string) string {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), postgresProgram("pg_dump"), append(options, "--no-owner", "--no-privileges", database)...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("pg_dump: %v: %s", err, &stderr)
	}
	return out.String()
}

// load runs a dump in a database.
func load(t *testing.T, database, sql string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), postgresProgram("psql"), "--quiet", "--set=ON_ERROR_STOP=1", database)
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v: %s", err, out)
	}
}

func postgresProgram(name string) string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return name
	}
	slices.Sort(found)
	return found[len(found)-1]
}

// get returns the body of a response, whatever its status, which must not be a failure of the server.
func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 500 {
		t.Fatalf("%s: %d %s %v", url, response.StatusCode, body, err)
	}
	return string(body)
}

// live does everything with text on accounts of Zoë, and returns her subject, her two accounts and Bob's.
func live(a api) (subject, first, second, bob string, position int64) {
	subject = "0198c1f0-0000-7000-8000-00000000ada0"
	open := func(body string) string { return a.call("POST", "/accounts", body, 201)["account_id"].(string) }
	first = open(`{"owner":"Zoë Quillfeather","currency":"EUR","subject_id":"` + subject + `","metadata":{"quillfeather-label":"x"}}`)
	second = open(`{"owner":"Zoë Quillfeather","currency":"EUR","subject_id":"` + subject + `"}`)
	bob = open(`{"owner":"Bob","currency":"EUR"}`)
	deposit := a.call("POST", "/deposits", `{"account_id":"`+first+`","amount":100,"reference":"quillfeather-salary","metadata":{"k":"quillfeather-note"}}`, 201)
	hold := a.call("POST", "/accounts/"+first+"/holds", `{"amount":5,"reference":"quillfeather-room"}`, 201)["hold_id"].(string)
	a.call("POST", "/accounts/"+first+"/holds/"+hold+"/release", `{"reason":"quillfeather-sorry"}`, 200)
	a.call("POST", "/reversals", fmt.Sprintf(`{"position":%v,"amount":"1","reason":"quillfeather-sorry"}`, deposit["position"]), 201)
	a.call("POST", "/transfers", `{"from_account_id":"`+first+`","to_account_id":"`+bob+`","amount":2,"reference":"the loan"}`, 201)
	// The answer to a refused command is stored with its key.
	refused, err := sendSettled(a.t, a.client, a.base+"/withdrawals", `{"account_id":"`+first+`","amount":1000,"reference":"quillfeather-salary"}`, "quillfeather-key")
	if err != nil || refused.status != http.StatusUnprocessableEntity {
		a.t.Fatalf("%+v, %v", refused, err)
	}
	for range 110 { // past a snapshot
		position = int64(a.call("POST", "/deposits", `{"account_id":"`+first+`","amount":1,"reference":"quillfeather-salary"}`, 201)["position"].(float64))
	}
	a.call("PATCH", "/accounts/"+first, `{"owner":"Zoë Quillfeather","metadata":{"k":"quillfeather-note"}}`, 200)
	return subject, first, second, bob, position
}

// TestErasure is the proof: after an erasure, none of a person's texts is in a dump of the log's database, in any response of any
// instance, in their logs or metrics, nor in a Passbook that is built from the log; and the others go on.
func TestErasure(t *testing.T) {
	t.Parallel()
	b := newErasureTestbed(t)
	one, two := b.launch(t, pgtest.ServiceURL(t, b.log)), b.launch(t, pgtest.ServiceURL(t, b.log))
	client := apitest.Client(t)
	a := api{t, client, one.base}
	subject, first, second, bob, position := live(a)
	seen := get(t, client, fmt.Sprintf("%s/accounts?owner_contains=QUILL&min_position=%d", two.base, position)) + get(t, client, one.base+"/events?limit=1000")
	if found := holds(seen, zoe); len(found) < len(zoe)-2 { // the folded name and the key are in no response
		t.Fatalf("only %q can be seen before", found)
	}
	pool := connect(t, b.log)
	var log string
	if err := pool.QueryRow(t.Context(), "select string_agg(payload::text || metadata::text, '') from events").Scan(&log); err != nil || len(holds(log, zoe)) > 0 {
		t.Fatalf("the log has %q, %v", holds(log, zoe), err)
	}
	backup := dumpOf(t, b.log, "--exclude-table-data=balances|transactions|account_details|holds|totals|stats_*", "--exclude-table-data=projections|projection_*")
	e := api{t, client, two.base}.call("POST", "/subjects/"+subject+"/erase", "", 200)
	if len(e["accounts"].([]any)) != 2 || e["plain_text_remains"] != false {
		t.Errorf("erased: %v", e)
	}
	if again := a.call("POST", "/subjects/"+subject+"/erase", "", 200); fmt.Sprint(again) != fmt.Sprint(e) {
		t.Errorf("again: %v, then %v", e, again)
	}
	restored := emptyDatabase(t, b.log, "_restored")
	load(t, restored, backup)
	three := b.launch(t, restored)
	// The backup lacks the two last events of the other log, and gets its own.
	for _, p := range []*process{one, two, three} {
		nothingIn(t, p, first, second, e["position"])
	}
	othersGoOn(a, first, bob)
	for _, projection := range []string{"balances", "transactions", "holds"} {
		a.awaitReplayOf(projection, a.call("POST", "/projections/"+projection+"/replay", "", 202)["id"].(string))
	}
	for _, p := range []*process{one, two, three} {
		p.stop(t)
		if found := holds(p.out.String(), zoe); len(found) > 0 {
			t.Errorf("a log has %q", found)
		}
	}
	for _, database := range []string{b.log, restored, b.keys} {
		if found := holds(dumpOf(t, database), zoe); len(found) > 0 {
			t.Errorf("a dump has %q", found)
		}
	}
	for _, database := range []string{b.log, restored} {
		if code, out := runWith(t, b.bin, "DATABASE_URL="+database, "verify"); code != 0 || !strings.Contains(out, "events is sealed") {
			t.Errorf("verify: %s", out)
		}
	}
}

// nothingIn expects no response of a server to have a text of the person.
func nothingIn(t *testing.T, p *process, first, second string, position any) {
	t.Helper()
	client, at := apitest.Client(t), fmt.Sprintf("min_position=%.0f", position)
	for _, path := range []string{
		"/accounts/" + first + "?" + at, "/accounts/" + second + "?" + at, "/accounts?owner_contains=quill&" + at, "/accounts?" + at,
		"/accounts/" + first + "/transactions?limit=1000&" + at, "/accounts/" + first + "/holds?" + at, "/accounts/" + first + "/balance?at_position=6",
		"/accounts/" + first + "/statement?" + at, "/events?after=0&limit=1000", "/events?after=0&subject=" + first,
		"/transactions?min_amount=0&" + at, "/metrics", "/projections", "/readyz",
	} {
		body := get(t, client, p.base+path)
		if found := holds(body, zoe); len(found) > 0 {
			t.Errorf("%s has %q", path, found)
		}
		if path == "/accounts/"+first+"?"+at && !strings.Contains(body, `"erased":true`) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// othersGoOn expects the erased account to go on without a name, and the others as before.
func othersGoOn(a api, first, bob string) {
	a.t.Helper()
	if got := a.call("GET", "/accounts/"+first+"/balance", "", 200); got["owner"] != "" || got["erased"] != true || got["balance"] != "207.00" {
		a.t.Errorf("the account: %v", got)
	}
	if found := get(a.t, a.client, a.base+"/accounts?owner_contains=bob"); !strings.Contains(found, bob) {
		a.t.Errorf("the search does not find the others any more: %s", found)
	}
	if got := get(a.t, a.client, a.base+"/accounts/"+bob+"/transactions"); !strings.Contains(got, "the loan") {
		a.t.Errorf("the other side of a transfer has lost its reference: %s", got)
	}
	if got := get(a.t, a.client, a.base+"/accounts/"+first+"/transactions?limit=1000"); strings.Contains(got, "the loan") {
		a.t.Errorf("the erased side of a transfer has its reference: %s", got)
	}
	a.call("POST", "/deposits", `{"account_id":"`+first+`","amount":1,"reference":"quillfeather-salary"}`, 201)
	a.call("PATCH", "/accounts/"+first, `{"owner":"Zoë Quillfeather"}`, 422)
}

// TestErasureIsFinished kills an instance in the middle of an erasure, after the key is destroyed and before the log says so. Another
// one finishes it.
func TestErasureIsFinished(t *testing.T) {
	t.Parallel()
	b := newErasureTestbed(t)
	one, two := b.launch(t, b.log), b.launch(t, b.log)
	client := apitest.Client(t)
	id := api{t, client, one.base}.call("POST", "/accounts", `{"owner":"Zoë Quillfeather","currency":"EUR"}`, 201)["account_id"].(string)
	keys := connect(t, b.keys)
	go func() {
		if response, err := http.Post(one.base+"/subjects/"+id+"/erase", "", nil); err == nil {
			_ = response.Body.Close()
		}
	}()
	count := func(pool *pgxpool.Pool, sql string) (n int) {
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventuallyTrue(t, time.Minute, "the key is destroyed", func() bool {
		return count(keys, "select count(*) from subject_keys where wrapped is null") == 1
	})
	_ = one.cmd.Process.Kill()
	<-one.done
	log := connect(t, b.log)
	if n := count(log, "select count(*) from events where type = 'SubjectErased'"); n > 0 {
		t.Fatal("it was killed too late")
	}
	eventuallyTrue(t, time.Minute, "the other instance finishes it", func() bool {
		return count(log, "select count(*) from events where type = 'SubjectErased'") == 1
	})
	a := api{t, client, two.base}
	a.call("POST", "/subjects/"+id+"/erase", "", 200)
	if got := a.call("GET", "/accounts/"+id+"/balance?min_position=2", "", 200); got["owner"] != "" || got["erased"] != true {
		t.Errorf("the account: %v", got)
	}
	if n := count(log, "select count(*) from events"); n != 2 {
		t.Errorf("%d events", n)
	}
}
