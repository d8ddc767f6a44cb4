package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"passbook/internal/access"
	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// TestTheAuditSurvivesAKill reads from two instances that record every read, kills one, and stops the other. All reads that ended a
// moment before the kill are recorded, and the records tell which run did not end in order.
func TestTheAuditSurvivesAKill(t *testing.T) {
	t.Parallel()
	bin, database := build(t), pgtest.URL(t)
	settings := []string{"DATABASE_URL=" + pgtest.ServiceURL(t, database), "PASSBOOK_ACCESS_AUDIT=all"}
	var on [2]*process
	for i := range on {
		on[i] = launch(t, bin, settings...)
		on[i].awaitReady(t, time.Minute)
	}
	a := api{t, apitest.Client(t), on[0].base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	const reads = 50
	read := func(p *process) {
		api := api{t, a.client, p.base}
		for range reads {
			api.call("GET", "/accounts/"+id+"/balance?min_position=1", "", 200)
		}
	}
	read(on[0])
	<-time.After(10 * access.FlushEvery) // what the documents promise is that nothing older is lost
	read(on[1])
	_ = on[0].cmd.Process.Kill()
	<-on[0].done
	code, stdout, stderr := invoke(t.Context(), strings.Fields("access list --limit 500 --json --account "+id+" --server "+on[1].base), "HOME=/")
	if code != exitOK || !strings.Contains(stdout, `"kind":"started"`) {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	on[1].stop(t)
	rows, err := connect(t, database).Query(t.Context(), `select count(*) filter (where kind = 'read' and route like '%balance' and accounts = array[$1::uuid]),
  count(*) filter (where kind = 'started'), count(*) filter (where kind = 'stopped'), max(number) - count(*)
from access_records group by run order by min(at)`, id)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var read, started, stopped, gaps int
		if err := rows.Scan(&read, &started, &stopped, &gaps); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("read %d, started %d, stopped %d, gaps %d", read, started, stopped, gaps))
	}
	want := fmt.Sprintf("read %[1]d, started 1, stopped 0, gaps 0; read %[1]d, started 1, stopped 1, gaps 0", reads)
	if all := strings.Join(got, "; "); all != want || rows.Err() != nil {
		t.Errorf("%s, want %s; %v", all, want, rows.Err())
	}
}

// TestTheAuditIsOffByDefault expects no record, no metric and no connection of the audit, and that its list works all the same.
func TestTheAuditIsOffByDefault(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	p := launch(t, build(t), "DATABASE_URL="+database)
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	a.call("GET", "/accounts", "", 200)
	if all := a.call("GET", "/access", "", 200)["records"].([]any); len(all) > 0 {
		t.Errorf("%v", all)
	}
	code, stdout, stderr := invoke(t.Context(), strings.Fields("access list --server "+p.base), "HOME=/")
	if code != exitOK || !strings.HasPrefix(stdout, "TIME (UTC)") {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	var connections int
	if err := connect(t, database).QueryRow(t.Context(), `select count(*) from pg_stat_activity where application_name = 'passbook audit' and datname = current_database()`).Scan(&connections); err != nil || connections > 0 {
		t.Errorf("%d connections, %v", connections, err)
	}
	response, err := a.client.Get(p.base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || strings.Contains(string(text), "passbook_access") {
		t.Error("there are metrics of the audit")
	}
}
