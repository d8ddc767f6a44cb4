package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// archivedServer runs a server on a log of 31 events, whose first 20 are moved to the archive while it serves.
type archivedServer struct {
	api
	bin, url  string
	pool      *pgxpool.Pool
	ada, bob  string
	before    string // a moment at which events were recorded that are in the archive by now
	transfers string // the path of a transfer in the archive
}

func newArchivedServer(t *testing.T, settings ...string) *archivedServer {
	t.Helper()
	s := &archivedServer{bin: build(t), url: pgtest.URL(t)}
	p := launch(t, s.bin, append(settings, "DATABASE_URL="+pgtest.ServiceURL(t, s.url))...)
	p.awaitReady(t, time.Minute)
	s.api, s.pool = api{t, apitest.Client(t), p.base}, connect(t, s.url)
	open := func(owner string) string {
		return s.call("POST", "/accounts", `{"owner":"`+owner+`","currency":"EUR"}`, 201)["account_id"].(string)
	}
	s.ada, s.bob = open("Ada"), open("Bob")
	for range 15 {
		s.call("POST", "/deposits", `{"account_id":"`+s.ada+`","amount":10}`, 201)
	}
	sent := s.call("POST", "/transfers", `{"from_account_id":"`+s.ada+`","to_account_id":"`+s.bob+`","amount":5}`, 201)
	s.transfers = "/transfers/" + sent["transfer_id"].(string)
	s.before = time.Now().UTC().Format(time.RFC3339Nano)
	s.call("POST", "/accounts/"+s.ada+"/holds", `{"amount":1}`, 201) // position 20
	for range 11 {
		s.call("POST", "/deposits", `{"account_id":"`+s.bob+`","amount":1}`, 201)
	}
	s.awaitApplied(31)
	pgtest.Archive(t, s.pool, 21)
	return s
}

func (s *archivedServer) awaitApplied(position int64) {
	s.t.Helper()
	eventuallyTrue(s.t, time.Minute, "every projection has applied the log", func() bool {
		var applied bool
		err := s.pool.QueryRow(s.t.Context(), `select count(*) = 5 and min(position) = $1 from projections`, position).Scan(&applied)
		return err == nil && applied
	})
}

// TestServerOnAnArchivedLog asks a server, and one that starts afterwards, everything about a log whose first events are in the archive.
func TestServerOnAnArchivedLog(t *testing.T) {
	t.Parallel()
	s := newArchivedServer(t)
	second := launch(t, s.bin, "DATABASE_URL="+pgtest.ServiceURL(t, s.url))
	second.awaitReady(t, time.Minute)
	position := 31
	for _, a := range []api{s.api, {t, s.client, second.base}} {
		for _, path := range []string{
			"/events", "/events?after=19&type=MoneyDeposited", "/events?after=1&subject=" + s.ada,
		} {
			if got := a.call("GET", path, "", 410); got["code"] != "events-archived" || got["first_position"] != 21.0 {
				t.Errorf("%s: %v", path, got)
			}
		}
		if got := a.call("POST", "/projections/balances/replay", "", 410); got["code"] != "events-archived" {
			t.Errorf("replay: %v", got)
		}
		if got := a.call("POST", "/reversals", `{"position":5}`, 422); got["code"] != "movement-archived" {
			t.Errorf("reversal: %v", got)
		}
		for path, want := range map[string]string{
			fmt.Sprintf("/accounts/%s/balance?min_position=%d", s.ada, position): "145.00", "/accounts/" + s.ada + "/balance?at_position=10": "80.00",
			"/accounts/" + s.ada + "/balance?at=" + s.before: "145.00",
		} {
			if got := a.call("GET", path, "", 200); got["balance"] != want {
				t.Errorf("%s: %v", path, got)
			}
		}
		for _, path := range []string{
			s.transfers, "/accounts/" + s.ada + "/statement?from=" + s.before, "/accounts/" + s.ada + "/transactions?from=2020-01-01T00:00:00Z",
			"/transactions?to=" + s.before,
		} {
			a.call("GET", path, "", 200)
		}
		if ready := fmt.Sprint(a.call("GET", "/readyz", "", 200)); !strings.Contains(ready, "events 1 to 20 are in the archive") {
			t.Errorf("readyz: %v", ready)
		}
		if got := a.call("GET", "/accounts/"+s.ada+"/statement", "", 200); len(got["transactions"].([]any)) != 16 {
			t.Errorf("statement: %v", got)
		}
		if got := a.call("POST", "/deposits", `{"account_id":"`+s.bob+`","amount":1}`, 201); got["version"] != float64(position-17) {
			t.Errorf("deposit: %v", got)
		}
		position++
	}
}

// TestCommandsOnAnArchivedLog runs the commands of the binary against such a server and its database.
func TestCommandsOnAnArchivedLog(t *testing.T) {
	t.Parallel()
	s := newArchivedServer(t)
	_, publicKey, err := note.GenerateKey(nil, "bank.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"tail", "--server", s.base, "--after", "3"}, 1, "from position 21 on"},
		{[]string{"replay", "balances", "--server", s.base, "--follow"}, 1, "from position 21 on"},
		{[]string{"verify"}, 0, "balances              not checked: it needs the events up to position 20"},
		{[]string{"status", "--server", s.base}, 0, "events 1 to 20 are in the archive"},
		{[]string{"verify"}, 0, "ok    snapshots"},
		{[]string{"verify", "--against", s.base}, 0, "events up to position 20 are in an archive, and are not compared"},
		{[]string{"verify", "--against", s.base}, 0, "up to position 31 (sha256 "},
		{[]string{"audit", "--key", publicKey}, 1, "positions 1 to 20 are not in this copy of the log; they are in the archive"},
		{[]string{"reverse", "5", "--server", s.base}, 1, "movements from position 21 on can be reversed"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, s.bin, tt.args...)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+s.url, "PASSBOOK_DATA_DIR="+filepath.Join(t.TempDir(), "none"))
		out, _ := cmd.CombinedOutput()
		cancel()
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.says) {
			t.Errorf("%v: %d\n%s", tt.args, code, out)
		}
	}
}
