package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"passbook/internal/pgtest"
	"passbook/internal/postgres"
)

// archived is a log of 3,300 events in partitions of 1,000, and a directory for its archive.
type archived struct {
	bin, url, dir string
	pool          *pgxpool.Pool
}

func newArchived(t *testing.T) *archived {
	t.Helper()
	a := &archived{bin: build(t), url: pgtest.URL(t), dir: t.TempDir()}
	a.pool = connect(t, a.url)
	a.exec(t, "drop table events_1; select extend_log(1000)")
	for first := 1; first < 3300; first += 1000 {
		a.exec(t, fmt.Sprintf(`insert into events select g, md5((g %% 7)::text)::uuid, 1 + (g - 1) / 7, gen_random_uuid(),
    case when g <= 7 then 'AccountCreated' else 'MoneyDeposited' end, case when g <= 7 then 2 else 1 end,
    case when g <= 7 then '{"owner": "Ada", "currency": "EUR", "overdraft_limit": 0, "decimals": 2}' else '{"amount": 1, "currency": "EUR", "decimals": 2}' end::jsonb,
    '{}', now() from generate_series(%d, %d) g; select extend_log(1000)`, first, min(first+999, 3300)))
	}
	a.exec(t, "insert into projections (id, version, generation, position) values ('balances', 1, 1, 3300)")
	return a
}

func (a *archived) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := a.pool.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (a *archived) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), a.bin, append([]string{"archive"}, args...)...)
	cmd.Env = append(cmd.Environ(), "DATABASE_URL="+a.url)
	return cmd
}

// run runs a command, and asserts what it prints.
func (a *archived) run(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	cmd := a.command(t, args...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
		t.Errorf("%v: %d %v, want %d and %q\n%s", args, got, err, code, want, out)
	}
}

func (a *archived) rows(t *testing.T) []string {
	t.Helper()
	found, _ := a.pool.Query(t.Context(), "select e::text from events e order by position") // an error is in the rows too
	rows, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestArchiveCommands detaches and attaches partitions on the command line.
func TestArchiveCommands(t *testing.T) {
	t.Parallel()
	a := newArchived(t)
	before := a.rows(t)
	a.run(t, 1, "does not have it: run server archive export", "detach", a.dir, "--to", "1000")
	a.run(t, 0, "does not have it: run server archive export", "detach", a.dir)
	a.run(t, 0, "events 2001 to 3000", "export", a.dir)
	a.run(t, 0, "there is nothing to detach", "detach", a.dir, "--to", "999")
	a.run(t, 0, "1 to 1000 is detached; the log keeps 14 of its 1000 events, in ", "detach", a.dir, "--to", "1000")
	a.run(t, 0, "stub", "list", a.dir)
	a.run(t, 0, "every closed partition is exported already", "export", a.dir)
	a.run(t, 0, "2001 to 3000 is detached; the log keeps 7 of its 1000 events, in ", "detach", a.dir, "--drop")
	a.exec(t, "update projections set position = 2999")
	a.run(t, 0, "1 to 1000 is attached again, from the file", "attach", a.dir)
	a.run(t, 0, "there is nothing to attach", "attach", a.dir)
	a.run(t, 0, "events_2001 (positions 2001 to 3000) stays in the log: the projection balances has applied the log up to position 2999", "detach", a.dir)
	a.run(t, 1, "events_2001 (positions 2001 to 3000) stays in the log", "detach", a.dir, "--to", "3000")
	a.run(t, 0, "1001 to 2000 is attached again, from the detached table", "attach", a.dir, "--to", "1001")
	a.run(t, 2, "name one directory", "attach")
	a.run(t, 2, "--to: a position, or 0", "detach", a.dir, "--to", "-1")
	a.run(t, 0, "1 to 1000 was detached before; the table events_1 is dropped, which frees ", "detach", a.dir, "--drop", "--to", "1000")
	a.run(t, 0, "events-0000000000000000001-0000000000000001000.parquet", "list", a.dir)
	a.run(t, 0, "1 to 1000 is attached again, from the file", "attach", a.dir)
	if !slices.Equal(before, a.rows(t)) {
		t.Error("the log has other rows than before")
	}
}

// TestArchiveSurvivesKills kills server archive with -9 at each statement that changes something, and runs it again over what that has
// left: first detach, then attach. The log is whole from where it says that it begins throughout.
func TestArchiveSurvivesKills(t *testing.T) {
	t.Parallel()
	a := newArchived(t)
	before := a.rows(t)
	a.run(t, 0, "events 2001 to 3000", "export", a.dir)
	const commit = "Q\x00\x00\x00\x0bcommit\x00" // the message
	detach, attach := []string{"detach", a.dir, "--to", "1000", "--drop"}, []string{"attach", a.dir}
	for _, at := range []struct {
		args []string
		sql  string
		sent bool // the database gets the statement
	}{
		{detach, `drop table if exists "events_1_stub"`, true},
		{detach, `create table "events_1_stub"`, true},
		{detach, `insert into "events_1_stub"`, true},
		{detach, `vacuum (freeze, analyze) "events_1_stub"`, true},
		{detach, `lock table only events`, true},
		{detach, `detach partition "events_1"`, true},
		{detach, `attach partition "events_1_stub"`, true},
		{detach, `drop constraint "events_1_stub_bounds"`, true},
		{detach, commit, false},
		{detach, commit, true},
		{detach, `drop table "events_1"`, false},
		{detach, `drop table "events_1"`, true},
		{attach, `create table "events_1"`, true},
		{attach, `copy "events_1"`, true},
		{attach, commit, false}, // of the table
		{attach, commit, true},
		{attach, `detach partition "events_1_stub"`, true},
		{attach, `drop table "events_1_stub"`, true},
		{attach, commit, false}, // of the swap
		{attach, commit, true},
	} {
		a.killAt(t, at.sql, at.sent, at.args...)
		a.check(t)
	}
	a.run(t, 0, "there is nothing to attach", attach...)
	if !slices.Equal(before, a.rows(t)) {
		t.Error("the log has other rows than before")
	}
}

// killAt kills a command when it sends a statement, before or after the database gets it.
func (a *archived) killAt(t *testing.T, sql string, sent bool, args ...string) {
	t.Helper()
	cmd := a.command(t, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started := make(chan struct{})
	var killed atomic.Bool
	cmd.Env = append(cmd.Env, "DATABASE_URL="+watch(t, a.url, func(message []byte, forward func()) {
		switch hit := bytes.Contains(message, []byte(sql)); {
		case killed.Load(): // what it has sent since comes too late
		case !hit:
			forward()
		default:
			killed.Store(true)
			if sent {
				forward()
			}
			<-started
			_ = cmd.Process.Kill() // -9
		}
	}))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	err := cmd.Wait()
	if !killed.Load() {
		t.Errorf("%v was not killed at %s: %v\n%s", args, sql, err, out.String())
	}
}

// watch returns a URL of the same database that goes through the test, which sees what a client sends.
func watch(t *testing.T, database string, each func(message []byte, forward func())) string {
	t.Helper()
	config, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	work.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			network, address := pgconn.NetworkAddress(config.Host, config.Port)
			server, err := net.Dial(network, address)
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			work.Go(func() { _, _ = io.Copy(client, server) })
			work.Go(func() {
				defer func() { _, _ = client.Close(), server.Close() }()
				buffer := make([]byte, 1<<16)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					each(buffer[:n], func() { _, _ = server.Write(buffer[:n]) })
				}
			})
		}
	})
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String()
}

// check asserts that the log is whole from its beginning on, and that the schema is as it should be.
func (a *archived) check(t *testing.T) {
	t.Helper()
	var whole bool
	if err := a.pool.QueryRow(t.Context(), `select (select count(*) from events where position >= first_position) = 3301 - first_position from log_begin`).Scan(&whole); err != nil || !whole {
		t.Errorf("the log is not whole: %v", err)
	}
	if err := postgres.CheckSchema(t.Context(), a.pool); err != nil {
		t.Error(err)
	}
}
