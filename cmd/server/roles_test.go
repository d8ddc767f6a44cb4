package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/httpapi/apitest"
)

// runRolesSQL runs deploy/postgres/roles.sql as psql would, in a cluster without Passbook's objects, and returns a function
// that gives a role's URL of the database.
func runRolesSQL(t *testing.T) func(role string) string {
	t.Helper()
	server := postgresIn(t, shortDir(t))
	to := func(role, database string) string {
		u, err := url.Parse(as(t, role, server.URL()))
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + database
		return u.String()
	}
	text, err := os.ReadFile("../../deploy/postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "--") {
			lines = append(lines, line)
		}
	}
	own := "drop database passbook; drop owned by passbook; drop role passbook; drop role passbook_app; drop role passbook_service;"
	database := "postgres"
	for part := range strings.SplitSeq(own+strings.Join(lines, ""), `\connect `) {
		if name, rest, found := strings.Cut(part, "\n"); found && name == "passbook" {
			database, part = name, rest
		}
		conn, err := pgx.Connect(t.Context(), to("postgres", database))
		if err != nil {
			t.Fatal(err)
		}
		for statement := range strings.SplitSeq(part, ";") {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return func(role string) string { return to(role, "passbook") }
}

// TestServiceRoleIsNotTheOwner creates the roles with the shipped script. The service says that it waits for the owner to
// migrate, then does all of its work, writing to the log through the append function only (I9).
func TestServiceRoleIsNotTheOwner(t *testing.T) {
	t.Parallel()
	bin, to := build(t), runRolesSQL(t)
	p := launch(t, bin, "DATABASE_URL="+to("passbook_app"))
	p.awaitPort(t)
	a := api{t, apitest.Client(t), p.base}
	eventuallyTrue(t, time.Minute, "the service says that the owner must migrate", func() bool {
		answer, err := exchange(t.Context(), "GET", p.base+"/readyz", "", 503)
		return err == nil && strings.Contains(detailOf(answer, "schema"), "run server migrate")
	})
	migrate := exec.CommandContext(t.Context(), bin, "migrate")
	migrate.Env = append(os.Environ(), "DATABASE_URL="+to("passbook_owner"))
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("server migrate: %v: %s", err, out)
	}
	p.awaitReady(t, time.Minute)
	if got := detailOf(a.call("GET", "/readyz", "", 200), "roles"); !strings.HasPrefix(got, "separate") {
		t.Errorf("roles: %q", got)
	}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"2.00"}`, 201)
	for range 3 { // from the second on, rows of old generations are deleted
		a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))
	}
	a.call("POST", "/projections/balances/rollback", "", 200)
	a.call("POST", "/projections/totals/pause", "", 200)
	a.call("POST", "/projections/totals/resume", "", 200)
	a.call("GET", "/accounts/"+id+"/balance?at_position=1", "", 200)
	if code, out := runVerify(t, bin, to("passbook_app")); code != 0 {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
	conn, err := pgx.Connect(t.Context(), to("passbook_app"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for _, attack := range []string{"delete from events", "update events set type = ''", "truncate events", "create table mine (id int)", "create temp table mine (id int)"} {
		if _, err := conn.Exec(t.Context(), attack); err == nil {
			t.Errorf("%s: not refused", attack)
		}
	}
}

// detailOf returns the detail of one check in a response of /readyz.
func detailOf(answer map[string]any, name string) string {
	checks, _ := answer["checks"].([]any)
	for _, one := range checks {
		if check, ok := one.(map[string]any); ok && check["name"] == name {
			detail, _ := check["detail"].(string)
			return detail
		}
	}
	return ""
}
