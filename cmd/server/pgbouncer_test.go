package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// blockOf returns the first code block of a language below a heading of docs/operations.md.
func blockOf(t *testing.T, heading, language string) string {
	t.Helper()
	return blockIn(t, "operations.md", heading, language)
}

// blockIn returns the first code block below a heading of a document.
func blockIn(t *testing.T, document, heading, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", document))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(section)
	if block == nil {
		t.Fatalf("there is no %s below %q", language, heading)
	}
	return block[1]
}

// TestBehindPgBouncer follows docs/operations.md: two instances behind PgBouncer in transaction mode, the second without a
// direct connection to PostgreSQL.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	bin, to := build(t), runRolesSQL(t)
	migrateAs(t, bin, to("passbook_owner"))
	admin := connect(t, to("postgres"))
	for statement := range strings.SplitSeq(blockOf(t, "### PgBouncer", "sql"), ";") {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	sockets := pgtest.SocketDir(t, to("passbook_app"))
	through := "postgres://passbook_app@" + pgtest.PgBouncer(t, sockets, blockOf(t, "### PgBouncer", "ini"),
		map[string]string{"db.example.com": sockets, "scram-sha-256": "trust", "default_pool_size = 30": "default_pool_size = 5"}) + "/passbook?sslmode=disable"
	first := launch(t, bin, "DATABASE_URL="+through, "PASSBOOK_DIRECT_DATABASE_URL="+to("passbook_app"))
	second := launch(t, bin, "DATABASE_URL="+through)
	first.awaitReady(t, time.Minute)
	second.awaitReady(t, time.Minute)
	a, b := api{t, apitest.Client(t), first.base}, api{t, apitest.Client(t), second.base}

	const clients, each = 8, 10
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			for range each {
				who := []api{a, b}[n%2]
				position := who.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1.00"}`, 201)["position"].(float64)
				who.call("GET", "/accounts/"+id+"/balance?min_position="+strconv.Itoa(int(position)), "", 200)
			}
		})
	}
	all.Wait()
	last := strconv.Itoa(1 + clients*each)
	for _, who := range []api{a, b} {
		if got := who.call("GET", "/accounts/"+id+"/balance?min_position="+last, "", 200)["balance"]; got != strconv.Itoa(clients*each)+".00" {
			t.Errorf("balance %v", got)
		}
		who.call("GET", "/accounts/"+id+"/transactions", "", 200)
		who.call("GET", "/totals", "", 200)
	}
	a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))
	if code, out := runVerify(t, bin, through); code != 0 {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
	// Only the first instance is notified of the other's appends.
	awaitTrue(t, admin, "select count(*) = 1 from pg_stat_activity where query = 'listen passbook_events'")
}
