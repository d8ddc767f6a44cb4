package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
)

// TestReadinessChecksSchemaAndRole changes the database under a running service.
func TestReadinessChecksSchemaAndRole(t *testing.T) {
	t.Parallel()
	bin, to := build(t), runRolesSQL(t)
	migrateAs(t, bin, to("passbook_owner"))
	p := launch(t, bin, "DATABASE_URL="+to("passbook_app"))
	p.awaitReady(t, time.Minute)
	owner := connect(t, to("passbook_owner"))
	for _, change := range []struct {
		do, undo, check, says string
		status                int
	}{
		{
			"drop index balances_owner", "create index balances_owner on balances (generation, owner, account_id)",
			"schema", "run server verify", 503,
		},
		{
			"alter table events add column extra int not null default 1", "alter table events drop column extra",
			"schema", "run server verify", 503,
		},
		{
			"grant update (payload) on events to passbook_service", "revoke update (payload) on events from passbook_service",
			"roles", "could change the log", 200,
		},
	} {
		if _, err := owner.Exec(t.Context(), change.do); err != nil {
			t.Fatal(err)
		}
		answer, err := exchange(t.Context(), "GET", p.base+"/readyz", "", change.status)
		if err != nil || !strings.Contains(detailOf(answer, change.check), change.says) {
			t.Errorf("%s: %v, %v", change.do, err, answer)
		}
		code, out := runVerify(t, bin, to("passbook_app"))
		if differs := change.check == "schema"; differs != (code == 1 && strings.Contains(out, "is not what this binary expects")) {
			t.Errorf("%s: verify: exit code %d\n%s", change.do, code, out)
		}
		if _, err := owner.Exec(t.Context(), change.undo); err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(t.Context(), "GET", p.base+"/readyz", "", 200); err != nil {
			t.Errorf("%s: %v", change.undo, err)
		}
	}
}

// TestReadinessChecksTheQueryDatabase sends queries to a database that lacks the schema at first and is down later.
func TestReadinessChecksTheQueryDatabase(t *testing.T) {
	t.Parallel()
	bin := build(t)
	primary, replica := postgresIn(t, shortDir(t)), postgresIn(t, shortDir(t))
	p := launch(t, bin, "DATABASE_URL="+primary.URL(), "PASSBOOK_QUERY_DATABASE_URL="+replica.URL())
	p.awaitPort(t)
	says := func(what string) func() bool {
		return func() bool {
			answer, err := exchange(t.Context(), "GET", p.base+"/readyz", "", 503)
			return err == nil && strings.Contains(detailOf(answer, "query database"), what)
		}
	}
	eventuallyTrue(t, time.Minute, "not ready without the schema", says("is not what this version expects"))
	a := api{t, apitest.Client(t), p.base}
	const account = "/accounts/0190a0d2-6f0e-7000-8000-000000000001"
	queries := []string{account, account + "/balance", account + "/transactions", "/accounts", "/totals", "/events"}
	for _, query := range queries {
		a.call("GET", query, "", 503)
	}
	migrateAs(t, bin, replica.URL())
	p.awaitReady(t, time.Minute)
	stopNow(t, replica)
	eventuallyTrue(t, time.Minute, "not ready without it", says("is unavailable"))
	for _, query := range queries {
		a.call("GET", query, "", 503)
	}
}

// TestUnsuitableDatabaseFailsTheStart checks that the start fails with a reason when the database can never work.
func TestUnsuitableDatabaseFailsTheStart(t *testing.T) {
	t.Parallel()
	bin, database := build(t), postgresIn(t, shortDir(t))
	admin := connect(t, as(t, "postgres", database.URL()))
	if _, err := admin.Exec(t.Context(), "create database latin template template0 encoding 'LATIN1' locale 'C' owner passbook"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(database.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/latin"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server := exec.CommandContext(ctx, bin)
	server.Env = append(os.Environ(), "DATABASE_URL="+u.String(), "PASSBOOK_ADDR=127.0.0.1:0")
	if out, err := server.CombinedOutput(); err == nil || !strings.Contains(string(out), "the database has the encoding LATIN1") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDatabaseDefaultsDoNotMatter runs the service on a database whose defaults change the meaning of statements.
func TestDatabaseDefaultsDoNotMatter(t *testing.T) {
	t.Parallel()
	bin, database := build(t), postgresIn(t, shortDir(t))
	admin := connect(t, as(t, "postgres", database.URL()))
	for _, preset := range []string{
		"default_transaction_isolation = 'repeatable read'", "client_encoding = 'LATIN1'", "datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'",
		"timezone = 'Asia/Kathmandu'", "standard_conforming_strings = off", "bytea_output = 'escape'", "extra_float_digits = -15",
		"array_nulls = off", "transform_null_equals = on", "quote_all_identifiers = on", "statement_timeout = '5ms'", "lock_timeout = '5ms'",
		"idle_in_transaction_session_timeout = '5ms'", "idle_session_timeout = '50ms'",
	} {
		if _, err := admin.Exec(t.Context(), "alter database passbook set "+preset); err != nil {
			t.Fatal(err)
		}
	}
	location := database.URL() + "&pool_max_conns=8" // as docs/operations.md has it
	p := launch(t, bin, "DATABASE_URL="+location)
	q := launch(t, bin, "DATABASE_URL="+location)
	p.awaitReady(t, time.Minute)
	q.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Åsa Λ","currency":"EUR"}`, 201)["account_id"].(string)
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			who := api{t, apitest.Client(t), []string{p.base, q.base}[n%2]}
			for range 20 {
				position := who.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1.00","reference":"it's \\\\ ä"}`, 201)["position"].(float64)
				who.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%d", id, int(position)), "", 200)
			}
		})
	}
	clients.Wait()
	if got := a.call("GET", "/accounts/"+id+"/balance?min_position=161", "", 200); got["balance"] != "160.00" || got["owner"] != "Åsa Λ" {
		t.Errorf("%v", got)
	}
	a.call("GET", "/accounts/"+id+"/balance?at="+time.Now().Add(-time.Millisecond).UTC().Format(time.RFC3339Nano), "", 200)
	a.call("GET", "/accounts/"+id+"/transactions?limit=5", "", 200)
	a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))
	if code, out := runVerify(t, bin, location); code != 0 {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
	if code, out := runWith(t, bin, "DATABASE_URL="+location, "keys", "create", "--name", "ops", "--scope", "events:read"); code != 0 {
		t.Errorf("keys create: exit code %d: %s", code, out)
	}
}

func migrateAs(t *testing.T, bin, databaseURL string) {
	t.Helper()
	migrate := exec.CommandContext(t.Context(), bin, "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+databaseURL)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("server migrate: %v: %s", err, out)
	}
}
