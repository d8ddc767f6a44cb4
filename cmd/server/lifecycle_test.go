package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/localpg"
	"passbook/internal/pgtest"
)

// fleet is a list of instances, such as a load balancer has.
type fleet struct {
	mu    sync.Mutex
	bases []string
	next  atomic.Int64
}

func (f *fleet) pick() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bases[int(f.next.Add(1))%len(f.bases)]
}

func (f *fleet) add(base string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bases = append(f.bases, base)
}

func (f *fleet) remove(base string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bases = slices.DeleteFunc(f.bases, func(b string) bool { return b == base })
}

// do sends a request to one instance after another until one accepts the connection. Any other failure is a lost request.
// An instance that closes its connections is stopping, and gets no more requests.
func (f *fleet) do(ctx context.Context, client *http.Client, method, path, body string, status int) error {
	for {
		base := f.pick()
		request, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return err
		}
		raw, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return err
		}
		if response.Close {
			f.remove(base)
		}
		if response.StatusCode != status {
			return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, raw)
		}
		return nil
	}
}

// TestRollingRestart replaces both instances of a service under load, one after the other. Clients keep their connections,
// send commands without keys, and retry only refused connections: no command is lost or applied twice, and both old
// instances exit with 0. PASSBOOK_SHUTDOWN_DELAY leaves a client that has chosen an instance time to connect to it.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	bin, owners := build(t), pgtest.URL(t)
	url := pgtest.ServiceURL(t, owners)
	start := func() *process {
		p := launch(t, bin, "DATABASE_URL="+url, "PASSBOOK_SHUTDOWN_DELAY=4s")
		p.awaitReady(t, time.Minute)
		return p
	}
	instances := []*process{start(), start()}
	f := &fleet{bases: []string{instances[0].base, instances[1].base}}
	a := api{t, apitest.Client(t), instances[0].base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var acknowledged atomic.Int64
	var group errgroup.Group
	for range 8 {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}}
		group.Go(func() error {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if err := f.do(t.Context(), client, "POST", "/deposits", `{"account_id":"`+id+`","amount":"0.01"}`, 201); err != nil {
					return err
				}
				acknowledged.Add(1)
				if err := f.do(t.Context(), client, "GET", "/accounts/"+id+"/balance?min_position=1", "", 200); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for n := range instances {
		old := instances[n]
		instances[n] = start()
		before := acknowledged.Load()
		f.add(instances[n].base)
		if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// Clients still have the old instance on their list when it stops.
		if <-old.done; old.err != nil {
			t.Errorf("an instance that was told to stop: %v", old.err)
		}
		f.remove(old.base)
		eventuallyTrue(t, 30*time.Second, "the service continues", func() bool { return acknowledged.Load() > before+20 })
	}
	stop()
	if err := group.Wait(); err != nil {
		t.Error("a request was lost:", err)
	}
	var recorded int64
	if err := connect(t, owners).QueryRow(t.Context(), "select count(*) from events where type = 'MoneyDeposited'").Scan(&recorded); err != nil {
		t.Fatal(err)
	}
	if recorded != acknowledged.Load() {
		t.Errorf("%d deposits are in the log, %d were acknowledged", recorded, acknowledged.Load())
	}
	a = api{t, a.client, instances[0].base} // the projections have changed owner
	want := fmt.Sprintf("%d.%02d", recorded/100, recorded%100)
	if got := a.call("GET", "/accounts/"+id+"/balance?min_position="+strconv.FormatInt(recorded+1, 10), "", 200)["balance"]; got != want {
		t.Errorf("balance %v, want %s", got, want)
	}
}

// TestDatabaseOutages makes a PostgreSQL read-only, closes it to logins, and restarts it. Each time commands get 503,
// readiness says why, and the service recovers without help.
func TestDatabaseOutages(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	database := postgresIn(t, dir)
	p := launch(t, build(t), "DATABASE_URL="+database.URL())
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	a.call("GET", "/accounts/"+id+"?min_position=1", "", 200)
	admin := func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), as(t, "postgres", database.URL()))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		for _, sql := range []string{"set default_transaction_read_only = off", statement} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	cut := func() { admin("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'passbook'") }
	deposit := func(status int) func() bool {
		return func() bool {
			_, err := exchange(t.Context(), "POST", p.base+"/deposits", `{"account_id":"`+id+`","amount":1}`, status)
			return err == nil
		}
	}
	says := func(status int, why string) func() bool {
		return func() bool {
			answer, err := exchange(t.Context(), "GET", p.base+"/readyz", "", status)
			return err == nil && strings.Contains(detailOf(answer, "database"), why)
		}
	}
	for _, trouble := range []struct {
		begin, end string
		ready      int
		why        string
	}{
		{"alter database passbook set default_transaction_read_only = on", "alter database passbook reset default_transaction_read_only", 200, "read-only"},
		{"alter role passbook connection limit 0", "alter role passbook connection limit -1", 503, "no connection free"},
		{"alter role passbook nologin", "alter role passbook login", 503, "refuses the service's login"},
	} {
		admin(trouble.begin)
		cut() // a session keeps what was set when it began, such as read-only
		eventuallyTrue(t, time.Minute, "503 after "+trouble.begin, deposit(503))
		eventuallyTrue(t, time.Minute, "readiness says "+trouble.why, says(trouble.ready, trouble.why))
		if trouble.ready == 200 {
			eventuallyTrue(t, time.Minute, "reads go on", func() bool {
				_, err := exchange(t.Context(), "GET", p.base+"/accounts/"+id+"/balance", "", 200)
				return err == nil
			})
		}
		admin(trouble.end)
		eventuallyTrue(t, time.Minute, "commands again after "+trouble.end, deposit(201))
	}
	stopNow(t, database)
	eventuallyTrue(t, time.Minute, "503 without a database", deposit(503))
	eventuallyTrue(t, time.Minute, "readiness says so", says(503, "is unavailable"))
	database = postgresIn(t, dir)
	eventuallyTrue(t, time.Minute, "commands again after a restart", deposit(201))
	p.awaitReady(t, time.Minute)
	eventuallyTrue(t, time.Minute, "the projections continue", func() bool {
		answer, err := exchange(t.Context(), "GET", p.base+"/projections/balances", "", 200)
		return err == nil && answer["lag"] == 0.0
	})
}

func stopNow(t *testing.T, server *localpg.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestPrivatePostgresIsRestarted kills the private PostgreSQL of a running service.
func TestPrivatePostgresIsRestarted(t *testing.T) {
	t.Parallel()
	data := private(t)
	p := launch(t, build(t), data)
	p.awaitReady(t, time.Minute)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	for n := range 2 {
		clusters, err := filepath.Glob(filepath.Join(strings.TrimPrefix(data, "PASSBOOK_DATA_DIR="), "postgres-*[0-9]", "postmaster.pid"))
		if err != nil || len(clusters) != 1 {
			t.Fatalf("%v, %v", clusters, err)
		}
		text, err := os.ReadFile(clusters[0])
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventuallyTrue(t, time.Minute, "commands are accepted again", func() bool {
			_, err := exchange(t.Context(), "POST", p.base+"/deposits", `{"account_id":"`+id+`","amount":1}`, 201)
			return err == nil
		})
		if got, want := a.call("GET", "/accounts/"+id+"?min_position="+strconv.Itoa(n+2), "", 200)["balance"], fmt.Sprintf("%d.00", n+1); got != want {
			t.Errorf("balance %v, want %s", got, want)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if <-p.done; p.err != nil {
		t.Errorf("stopped: %v", p.err)
	}
}
