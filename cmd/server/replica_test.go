package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/httpapi/apitest"
	"passbook/internal/localpg"
)

// postgresIn starts a private PostgreSQL on a data directory.
func postgresIn(t *testing.T, dir string) *localpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.Options{
		DataDir: dir, BinDir: os.Getenv("PG_BIN"), RuntimeDir: dir,
		Settings: map[string]string{"fsync": "off", "shared_buffers": "16MB", "hot_standby": "on", "wal_level": "replica", "max_wal_senders": "4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return server
}

// standbyOf starts a streaming replica of a private PostgreSQL: a base backup laid out as localpg has its clusters.
func standbyOf(t *testing.T, primary *localpg.Server, primaryDir string) *localpg.Server {
	t.Helper()
	clusters, err := filepath.Glob(filepath.Join(primaryDir, "postgres-*[0-9]"))
	if err != nil || len(clusters) != 1 {
		t.Fatalf("clusters %v, %v", clusters, err)
	}
	u, err := url.Parse(primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	target := filepath.Join(dir, filepath.Base(clusters[0]))
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	// Run as PostgreSQL's user, so that it owns the files.
	info, err := os.Stat(clusters[0])
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the owner of a directory is unknown on this system")
	}
	if err := os.Chown(target, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	major := strings.TrimPrefix(filepath.Base(clusters[0]), "postgres-")
	backup := exec.CommandContext(t.Context(), program(t, "pg_basebackup", major), "--pgdata="+target, "--host="+u.Query().Get("host"),
		"--username=postgres", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	backup.Dir = target
	if os.Geteuid() == 0 {
		backup.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	return postgresIn(t, dir)
}

// shortDir makes a directory with a path short enough for a socket, which the user that PostgreSQL runs as can enter.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-") //nolint:usetesting // t.TempDir is closed to others, and long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	passable(t, dir)
	return dir
}

// program finds one of PostgreSQL's programs of a major version.
func program(t *testing.T, name, major string) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("PG_BIN"), "/usr/lib/postgresql/" + major + "/bin", "/usr/pgsql-" + major + "/bin"} {
		if path := filepath.Join(dir, name); dir != "" {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: %v", name, err)
	}
	return path
}

// as returns the URL of a private PostgreSQL for its superuser.
func as(t *testing.T, role, location string) string {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("user", role)
	u.RawQuery = q.Encode()
	return u.String()
}

// awaitTrue repeats a query until it returns true.
func awaitTrue(t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string,
) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for holds := false; !holds; {
		if err := db.QueryRow(ctx, sql).Scan(&holds); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if !holds {
			<-tick.C
		}
	}
}

// apiWait reads balances with a Prefer header.
type apiWait struct {
	api
	prefer string
}

func (a apiWait) balance(id string, position int64) map[string]any {
	a.t.Helper()
	return a.get("/accounts/" + id + "/balance?min_position=" + strconv.FormatInt(position, 10))
}

func (a apiWait) get(path string) map[string]any {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.base+path, http.NoBody)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	request.Header.Set("Prefer", a.prefer)
	response, err := a.client.Do(request)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	defer func() { _ = response.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		a.t.Error(err)
	}
	return answer
}

// TestQueriesGoToAReplica uses a real streaming replica. While its replay of the WAL is paused, queries return what it has, and a
// query for a later position gets 503; once resumed, it has everything.
func TestQueriesGoToAReplica(t *testing.T) {
	t.Parallel()
	primaryDir := shortDir(t)
	primary := postgresIn(t, primaryDir)
	standby := standbyOf(t, primary, primaryDir)
	p := launch(t, build(t), "DATABASE_URL="+primary.URL(), "PASSBOOK_QUERY_DATABASE_URL="+standby.URL())
	p.awaitReady(t, 60*time.Second)
	a := api{t, apitest.Client(t), p.base}
	id := a.call("POST", "/accounts", `{"owner":"Ada","currency":"EUR"}`, 201)["account_id"].(string)
	deposit := func() int64 {
		t.Helper()
		return int64(a.call("POST", "/deposits", `{"account_id":"`+id+`","amount":"1.00"}`, 201)["position"].(float64))
	}
	balance := func(position int64, status int) map[string]any {
		t.Helper()
		return a.call("GET", "/accounts/"+id+"/balance?min_position="+strconv.FormatInt(position, 10), "", status)
	}
	for n := range 20 { // written on the primary, read on the replica
		if got := balance(deposit(), 200); got["balance"] != fmt.Sprintf("%d.00", n+1) {
			t.Fatalf("after %d deposits: %v", n+1, got)
		}
	}

	superuser, err := pgx.Connect(t.Context(), as(t, "postgres", standby.URL()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = superuser.Close(context.Background()) }()
	set := func(statement string) {
		t.Helper()
		if _, err := superuser.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	set("select pg_wal_replay_pause()")
	awaitTrue(t, superuser, "select pg_get_wal_replay_pause_state() = 'paused'")
	position := deposit()
	primaryPool := connect(t, primary.URL())
	awaitTrue(t, primaryPool, fmt.Sprintf("select position >= %d from projections where id = 'balances'", position))
	if got := a.call("GET", "/accounts/"+id+"/balance", "", 200); got["balance"] != "20.00" {
		t.Errorf("a paused replica returned %v", got)
	}
	short := apiWait{a, "wait=1"}
	if got := short.balance(id, position); got["code"] != "projection-behind" {
		t.Errorf("%v", got)
	}
	// Events that the replica has not received are not lost, and the replica does not report them as lost.
	events := func(after int64) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/events?after="+strconv.FormatInt(after, 10), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := a.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if here, beyond := events(position), events(position+1); here != 200 || beyond != 409 {
		t.Errorf("events after the last of the primary: %d, and beyond: %d", here, beyond)
	}
	if got := short.get("/accounts/" + id + "/balance?at=" + time.Now().UTC().Format(time.RFC3339Nano)); got["code"] != "projection-behind" {
		t.Errorf("as of now: %v", got)
	}
	waiting := make(chan map[string]any, 1)
	go func() { waiting <- (apiWait{a, "wait=30"}).balance(id, position) }()
	set("select pg_wal_replay_resume()")
	if got := <-waiting; got["balance"] != "21.00" {
		t.Errorf("after the replica resumed: %v", got)
	}
}
