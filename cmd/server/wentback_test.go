package main

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

// ending opens a stream of events, reads the given number of them, and sends the name of the last one once it has ended.
func (p *process) ending(t *testing.T, events int) <-chan string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/events?after=0", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", response, err)
	}
	t.Cleanup(func() { cancel(); _ = response.Body.Close() })
	ended, read := make(chan string, 1), make(chan struct{}, 100)
	go func() {
		last := ""
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				last = name
				read <- struct{}{}
			}
		}
		ended <- last
	}()
	for range events {
		<-read
	}
	return ended
}

// TestLogGoesBackUnderAServer deletes the newest events of a log, as a failover might, and appends others: no response may show
// lost events, every response says what happened, and replays repair the read models (I4, I7).
func TestLogGoesBackUnderAServer(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	p := launch(t, bin, "DATABASE_URL="+url)
	p.awaitReady(t, 60*time.Second)
	pool := connect(t, url)
	a := api{t, apitest.Client(t), p.base}
	open := func() string {
		t.Helper()
		return a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	}
	active := func() any { return a.call("GET", "/stats", "", 200)["accounts"].(map[string]any)["active"] }
	kept := open()
	for range 9 {
		open()
	}
	awaitPosition(t, pool, 10)
	eventuallyTrue(t, 30*time.Second, "all accounts are counted", func() bool { return active() == 10.0 })
	a.call("GET", "/accounts/"+kept+"/balance", "", 200)
	ended := p.ending(t, 10)

	if _, err := pool.Exec(t.Context(), `delete from events where position > 5`); err != nil {
		t.Fatal(err)
	}
	if last := <-ended; last != "log-went-back" {
		t.Errorf("the last event of the stream is %q", last)
	}
	a.call("GET", "/events?after=10", "", 409)
	ids := []string{"balances", "transactions", "totals", "holds", "stats"}
	for _, id := range ids {
		eventuallyTrue(t, 30*time.Second, id+" has halted", func() bool {
			st := a.call("GET", "/projections/"+id, "", 200)
			said, _ := st["error"].(string)
			return st["state"] == "halted" && strings.Contains(said, "server replay "+id)
		})
	}
	if !p.ready(t.Context(), t) {
		t.Error("the service is not ready")
	}
	for _, id := range ids {
		a.awaitReplayOf(id, a.call("POST", "/projections/"+id+"/replay", "", 202)["id"].(string))
	}
	if got := active(); got != 5.0 {
		t.Errorf("after the replay %v accounts are active, want 5", got)
	}
	// Positions are lower than before, and a wait for a lost position lasts until there is one again.
	if got := a.call("GET", "/accounts/"+kept+"/balance", "", 200); got["position"] != 1.0 {
		t.Errorf("%v", got)
	}
	for n := range 3 {
		if _, err := pool.Exec(t.Context(), `insert into events select $1, $2::uuid, $3, gen_random_uuid(), 'MoneyDeposited', 1,
'{"amount": 100, "currency": "EUR"}', '{}', clock_timestamp()`, 6+n, kept, 2+n); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.call("GET", "/accounts/"+kept+"/balance?min_position=8", "", 200); got["balance"] != "3.00" {
		t.Errorf("%v", got)
	}
	if code, said := runVerify(t, bin, url); code != 0 {
		t.Error(said)
	}
}
