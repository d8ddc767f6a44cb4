package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/pgtest"
)

const (
	incidentAccounts = 20
	incidentEvents   = 150_000 // several chunks of a replay
)

func incidentAccount(n int) string { return fmt.Sprintf("0190a0d2-0000-7000-8000-%012d", n) }

// fill writes a long log by SQL: accounts in euros, and deposits of one cent to each in turn.
func fill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `insert into events
select n, ('0190a0d2-0000-7000-8000-' || lpad((1 + (n - 1) % $1)::text, 12, '0'))::uuid, 1 + (n - 1) / $1, gen_random_uuid(),
       case when n <= $1 then 'AccountCreated' else 'MoneyDeposited' end, 1,
       case when n <= $1 then '{"owner": "Ada", "currency": "EUR", "overdraft_limit": 0}'::jsonb
            else '{"amount": 1, "currency": "EUR"}'::jsonb end, '{}', now() from generate_series(1, $2::int) n`, incidentAccounts, incidentEvents)
	if err != nil {
		t.Fatal(err)
	}
}

// runVerify runs server verify and returns its exit code and output.
func runVerify(t *testing.T, bin, url string) (int, string) {
	t.Helper()
	cmd := exec.Command(bin, "verify")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran { //nolint:errorlint // exec wraps nothing
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestReplayIsNoIncident replays twice under a writer and four readers, with a kill -9 during the second replay: no read
// fails, no balance goes back, and afterwards every balance equals the log (I4, I6).
func TestReplayIsNoIncident(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	pool := connect(t, url)
	first := launch(t, bin, "DATABASE_URL="+url)
	first.awaitReady(t, 60*time.Second)
	fill(t, pool)
	steady := launch(t, bin, "DATABASE_URL="+url) // the instance that readers and the writer use
	steady.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), steady.base}
	awaitPosition(t, pool, incidentEvents)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return deposits(ctx, steady.base) })
	for reader := range 4 {
		group.Go(func() error { return reads(ctx, steady.base, incidentAccount(1+reader)) })
	}
	a.awaitReplay(a.call("POST", "/projections/balances/replay", "", 202)["id"].(string))

	// The first instance owns the projection, and so runs its replays; the other takes both over.
	id := a.call("POST", "/projections/balances/replay", "", 202)["id"].(string)
	eventuallyTrue(t, 60*time.Second, "the replay has begun", func() bool {
		var processed int64
		err := pool.QueryRow(ctx, "select processed from projection_replays where id = $1", id).Scan(&processed)
		return err == nil && processed > 0
	})
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-first.done
	var state string
	if err := pool.QueryRow(t.Context(), "select state from projection_replays where id = $1", id).Scan(&state); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed while the replay was %s", state)
	a.awaitReplay(id)
	stop()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if code, out := runVerify(t, bin, url); code != 0 {
		t.Errorf("verify after all of it: exit code %d\n%s", code, out)
	}
	if _, err := pool.Exec(t.Context(), `update balances b set balance = balance + 1 from projections p
where p.id = 'balances' and b.generation = p.generation and b.account_id = $1`, incidentAccount(7)); err != nil {
		t.Fatal(err)
	}
	if code, out := runVerify(t, bin, url); code != 1 || !strings.Contains(out, incidentAccount(7)) {
		t.Errorf("verify after a balance was changed by hand: exit code %d\n%s", code, out)
	}
}

// exchange sends a request and returns the decoded response, which must have the wanted status.
func exchange(ctx context.Context, method, url, body string, status int) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := plain.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if response.StatusCode != status {
		return nil, fmt.Errorf("%s %s: %d %v", method, url, response.StatusCode, answer)
	}
	return answer, nil
}

// plain is a client that checks nothing, for thousands of requests.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// awaitPosition returns when balances has applied a position. It may take long, but must not stall.
func awaitPosition(t *testing.T, pool *pgxpool.Pool, position int64) {
	t.Helper()
	for at := int64(-1); at < position; {
		before := at
		eventuallyTrue(t, 60*time.Second, fmt.Sprintf("more than %d events of %d are applied", before, position), func() bool {
			err := pool.QueryRow(t.Context(), "select position from projections where id = 'balances'").Scan(&at)
			return err == nil && at > before
		})
	}
}

func eventuallyTrue(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// deposits sends one deposit after another until ctx ends; each must be accepted.
func deposits(ctx context.Context, base string) error {
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf(`{"account_id":"%s","amount":"0.01"}`, incidentAccount(1+n%incidentAccounts))
		if _, err := exchange(ctx, http.MethodPost, base+"/deposits", body, http.StatusCreated); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// reads reads a balance repeatedly until ctx ends; each read must succeed, and must not go back.
func reads(ctx context.Context, base, account string) error {
	var position, version float64
	for ctx.Err() == nil {
		got, err := exchange(ctx, http.MethodGet, base+"/accounts/"+account+"/balance", "", http.StatusOK)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err != nil { // the end, in the middle of a request
			continue
		}
		p, v := got["position"].(float64), got["version"].(float64)
		if p < position || v < version {
			return fmt.Errorf("account %s went back from version %.0f at %.0f to version %.0f at %.0f", account, version, position, v, p)
		}
		position, version = p, v
	}
	return nil
}

// TestAnotherInstanceTakesOver pauses the owner of the projections for longer than its lease: commands to the other
// instance become visible, and the old owner, once resumed, does no harm (I5).
func TestAnotherInstanceTakesOver(t *testing.T) {
	t.Parallel()
	bin, url := build(t), pgtest.URL(t)
	owner := launch(t, bin, "DATABASE_URL="+url)
	owner.awaitReady(t, 60*time.Second)
	pool := connect(t, url)
	eventuallyTrue(t, 60*time.Second, "the projections are owned", func() bool {
		var owned int
		err := pool.QueryRow(t.Context(), "select count(*) from projections where owner <> ''").Scan(&owned)
		return err == nil && owned >= 3
	})
	other := launch(t, bin, "DATABASE_URL="+url)
	other.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), other.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)

	if err := owner.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	position := a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":1}`, 201)["position"].(float64)
	if got := a.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%.0f", id, position), "", 200)["balance"]; got != "1.00" {
		t.Errorf("balance %v", got)
	}
	if err := owner.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	position = a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":1}`, 201)["position"].(float64)
	for _, base := range []string{owner.base, other.base} {
		got := api{t, a.client, base}.call("GET", fmt.Sprintf("/accounts/%s/balance?min_position=%.0f", id, position), "", 200)
		if got["balance"] != "2.00" {
			t.Errorf("%s: balance %v", base, got["balance"])
		}
	}
	if code, out := runVerify(t, bin, url); code != 0 {
		t.Errorf("verify: exit code %d\n%s", code, out)
	}
}
