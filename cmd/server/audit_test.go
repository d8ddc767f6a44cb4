package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/parquet-go/parquet-go"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"passbook/internal/archive"
	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// auditor checks a server from outside, with the public key and the packages note and tlog alone.
type auditor struct {
	*testing.T
	verifiers note.Verifiers
	origin    string
}

// get returns a response of a server.
func (a *auditor) get(base, path string) []byte {
	a.Helper()
	response, err := http.Get(base + path)
	if err != nil {
		a.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		a.Fatalf("%s: %d %s %v", path, response.StatusCode, body, err)
	}
	return body
}

// checkpoint returns the size and the hash of a checkpoint, after it has checked its signature.
func (a *auditor) checkpoint(signed []byte) tlog.Tree {
	a.Helper()
	n, err := note.Open(signed, a.verifiers)
	if err != nil {
		a.Fatalf("%v:\n%s", err, signed)
	}
	lines := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || lines[0] != a.origin {
		a.Fatalf("the checkpoint is\n%s", n.Text)
	}
	return tlog.Tree{N: size, Hash: a.hash(lines[2])}
}

func (a *auditor) hash(text string) tlog.Hash {
	a.Helper()
	h, err := tlog.ParseHash(text)
	if err != nil {
		a.Fatal(err)
	}
	return h
}

// await returns the checkpoint of a server once it has a size.
func (a *auditor) await(base string, size int64) tlog.Tree {
	a.Helper()
	var tree tlog.Tree
	eventuallyTrue(a.T, time.Minute, fmt.Sprintf("a checkpoint has %d events", size), func() bool {
		response, err := http.Get(base + "/log/checkpoint")
		if err != nil {
			a.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			return false
		}
		tree = a.checkpoint(body)
		return tree.N == size
	})
	return tree
}

// proofs is what the routes of proofs return.
type proofs struct {
	Record           string   `json:"record"`
	LeafHash         string   `json:"leaf_hash"`
	PreviousLeafHash string   `json:"previous_leaf_hash"`
	Hashes           []string `json:"hashes"`
}

func (a *auditor) proof(base, path string) (p proofs, hashes []tlog.Hash) {
	a.Helper()
	if err := json.Unmarshal(a.get(base, path), &p); err != nil {
		a.Fatal(err)
	}
	for _, h := range p.Hashes {
		hashes = append(hashes, a.hash(h))
	}
	return p, hashes
}

// includes checks that an event is in a tree, and that its record has a text.
func (a *auditor) includes(base string, tree tlog.Tree, position int64, text string) {
	a.Helper()
	p, hashes := a.proof(base, fmt.Sprintf("/log/proofs/inclusion?position=%d&size=%d", position, tree.N))
	record, err := base64.StdEncoding.DecodeString(p.Record)
	if err != nil {
		a.Fatal(err)
	}
	leaf := tlog.RecordHash(record)
	if leaf != a.hash(p.LeafHash) || !strings.Contains(string(record), text) {
		a.Errorf("the record of position %d is %q", position, record)
	}
	if err := tlog.CheckRecord(hashes, tree.N, tree.Hash, position-1, leaf); err != nil {
		a.Errorf("position %d: %v", position, err)
	}
	if position > 1 {
		before, _ := a.proof(base, fmt.Sprintf("/log/proofs/inclusion?position=%d", position-1))
		if before.LeafHash != p.PreviousLeafHash || !strings.HasSuffix(string(record), hashBytes(a.hash(before.LeafHash))) {
			a.Errorf("the record of position %d does not have the hash of the event before", position)
		}
	}
}

func hashBytes(h tlog.Hash) string { return string(h[:]) }

// continues checks that one tree is the beginning of another.
func (a *auditor) continues(base string, earlier, later tlog.Tree) {
	a.Helper()
	_, hashes := a.proof(base, fmt.Sprintf("/log/proofs/consistency?from=%d&to=%d", earlier.N, later.N))
	if err := tlog.CheckTree(hashes, later.N, later.Hash, earlier.N, earlier.Hash); err != nil {
		a.Errorf("from %d to %d: %v", earlier.N, later.N, err)
	}
}

// keygen makes a key with the binary, and returns its file and what checks its signatures.
func keygen(t *testing.T, bin string) (file string, a *auditor) {
	t.Helper()
	file, origin := filepath.Join(t.TempDir(), "signing.key"), "bank.example/passbook"
	code, public := runWith(t, bin, "X=", "audit", "keygen", origin, file)
	verifier, err := note.NewVerifier(strings.TrimSpace(public))
	if code != 0 || err != nil {
		t.Fatalf("keygen: exit code %d: %s: %v", code, public, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info.Mode(), err)
	}
	if code, out := runWith(t, bin, "X=", "audit", "keygen", origin, file); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("keygen over a key: exit code %d: %s", code, out)
	}
	return file, &auditor{t, note.VerifierList(verifier), origin}
}

// TestTheLogProvesItself signs with two instances, kills the one that signs, and checks checkpoints, proofs and copies from outside.
func TestTheLogProvesItself(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	key, a := keygen(t, bin)
	files := []string{filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")}
	instance := func(i int) *process {
		p := launch(t, bin, "DATABASE_URL="+url, "PASSBOOK_SIGNING_KEY_FILE="+key, "PASSBOOK_CHECKPOINT_FILE="+files[i])
		p.awaitReady(t, time.Minute)
		return p
	}
	first := instance(0)
	api1 := api{t, apitest.Client(t), first.base}
	id := api1.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	deposit := func(on api, n int) {
		for i := range n {
			on.call("POST", "/deposits", fmt.Sprintf(`{"account_id":"%s","amount":"1.00","reference":"invoice %d"}`, id, i), 201)
		}
	}
	deposit(api1, 9)
	before := a.await(first.base, 10)
	first.metricsHave(t, `passbook_signer_state{state="signing"} 1`, "passbook_signer_position 10", "passbook_signer_lag_events 0")
	second := instance(1)
	_ = first.cmd.Process.Kill()
	<-first.done
	api2 := api{t, apitest.Client(t), second.base}
	deposit(api2, 10)
	after := a.await(second.base, 20)
	a.continues(second.base, before, after)
	for _, position := range []int64{1, 2, 10, 20} {
		a.includes(second.base, after, position, map[bool]string{true: "Ada", false: "invoice"}[position == 1])
	}
	a.includes(second.base, before, 10, "invoice 8")

	dump := filepath.Join(t.TempDir(), "dump")
	pgDump(t, url, dump)
	deposit(api2, 1)
	a.await(second.base, 21)
	public := key + ".pub"
	audited := func(setting string, want int, text string, args ...string) {
		t.Helper()
		code, out := runWith(t, bin, setting, append([]string{"audit"}, args...)...)
		if code != want || !strings.Contains(out, text) {
			t.Errorf("audit %v: exit code %d: %s; want %d and %q", args, code, out, want, text)
		}
	}
	audited("X=", 0, "events 1 to 20 are those that bank.example/passbook signed", "--key", public, "--dump", dump)
	audited("X=", 0, "checkpoints compared: 2", "--key", public, "--dump", dump, "--checkpoint", files[0])
	audited("X=", 1, "positions 21 to 21 are missing", "--key", public, "--dump", dump, "--checkpoint", lastOf(t, files[1]))
	audited("DATABASE_URL="+url, 0, "events 1 to 21", "--key", public, "--checkpoint", files[0], "--checkpoint", files[1])
	exported := exportParquet(t, url, 1, 20)
	audited("X=", 0, "1 checkpoints have more events", "--key", public, "--parquet", exported, "--checkpoint", files[0], "--checkpoint", lastOf(t, files[1]))
	audited("X=", 0, "events 1 to 20 are those", "--key", public, "--parquet", exported, "--dump", dump)
	audited("DATABASE_URL="+url, 0, "events 1 to 21 are those", "--key", public, "--parquet", exported)
	audited("DATABASE_URL="+url, 1, "position 1 is missing", "--key", public, "--parquet", exportParquet(t, url, 2, 20))
	otherKey, _ := keygen(t, bin)
	audited("X=", 1, "is not accepted", "--key", otherKey+".pub", "--dump", dump)
	audited("X=", 2, "--key", "--dump", dump)
	code, out := runWith(t, bin, "DATABASE_URL="+url, "verify", "--signing-key-file", key)
	if code != 0 || !strings.Contains(out, "ok    signed log") {
		t.Errorf("verify: exit code %d: %s", code, out)
	}
}

// lastOf returns a file with the last checkpoint of a file, once that has 21 events.
func lastOf(t *testing.T, path string) string {
	t.Helper()
	var last string
	eventuallyTrue(t, time.Minute, "the file has the last checkpoint", func() bool {
		text, err := os.ReadFile(path)
		at := strings.LastIndex(string(text), "bank.example/passbook\n21\n")
		if err != nil || at < 0 {
			return false
		}
		last = string(text[at:])
		return true
	})
	file := filepath.Join(t.TempDir(), "last")
	if err := os.WriteFile(file, []byte(last), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// pgDump dumps a database in the custom format.
func pgDump(t *testing.T, url, file string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "pg_dump", "--format=custom", "--file="+file, "--dbname="+url).CombinedOutput(); err != nil {
		t.Fatalf("pg_dump: %v: %s", err, out)
	}
}

// TestDocumentedAudit runs the commands of docs/audit.md, with a private PostgreSQL.
func TestDocumentedAudit(t *testing.T) {
	t.Parallel()
	bin, data := build(t), private(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	script := exec.CommandContext(t.Context(), "bash", "-euc", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+
		"server() { if [ $# -eq 0 ]; then exec "+bin+"; else "+bin+" \"$@\"; fi; }\n"+blockIn(t, "audit.md", "## Sign", "sh"))
	script.Dir = t.TempDir()
	script.Env = append(os.Environ(), "DATABASE_URL=", data, "PASSBOOK_ADDR="+addr, "url=http://"+addr)
	out, err := script.CombinedOutput()
	for _, want := range []string{`"leaf_hash"`, "events 1 to 2 are those that bank.example/passbook signed", "ok    signed log", "nothing differs"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%v: %s; want %q", err, out, want)
		}
	}
}

// exportParquet writes events to a file as a partition is exported, and returns its directory.
func exportParquet(t *testing.T, url string, first, last int64) string {
	t.Helper()
	rows, err := connect(t, url).Query(t.Context(), `select position, stream_id, version, event_id, type, schema_version, payload::text, metadata::text,
		(extract(epoch from recorded_at) * 1000000)::bigint from events where position between $1 and $2 order by position`, first, last)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[archive.Row])
	if err != nil {
		t.Fatal(err)
	}
	dir, name := t.TempDir(), fmt.Sprintf("events-%019d-%019d", first, last)
	if err := parquet.WriteFile(filepath.Join(dir, name+".parquet"), all); err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"file":%q,"first_position":%d,"last_position":%d,"count":%d}`, name+".parquet", first, last, len(all))
	if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
