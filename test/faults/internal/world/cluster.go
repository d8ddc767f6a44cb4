// Package world is the target of the faults: PostgreSQL clusters, processes of the server, and the networks between them.
package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// startLimit bounds every start. It is long, since only a failing run waits for all of it.
const startLimit = 60 * time.Second

// Programs is an installed PostgreSQL and the user its programs run as.
type Programs struct {
	dir  string
	attr syscall.SysProcAttr
	// UID and GID own the files that the programs write; -1 if that is this process's user.
	UID, GID int
}

// FindPrograms searches the directory PG_BIN, or else the usual places and PATH.
func FindPrograms(bin string) (Programs, error) {
	dirs := []string{bin}
	if bin == "" {
		dirs, _ = filepath.Glob("/usr/lib/postgresql/*/bin")
		slices.Reverse(dirs)
		if path, err := exec.LookPath("initdb"); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, dir := range dirs {
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		p := Programs{dir: dir, UID: -1, GID: -1, attr: childAttr()}
		if os.Geteuid() != 0 {
			return p, nil
		}
		// PostgreSQL refuses to run as root.
		for _, name := range []string{"postgres", "nobody"} {
			if u, err := user.Lookup(name); err == nil {
				p.UID, _ = strconv.Atoi(u.Uid)
				p.GID, _ = strconv.Atoi(u.Gid)
				p.attr.Credential = &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}
				return p, nil
			}
		}
		return p, errors.New("as root, PostgreSQL needs a user postgres or nobody to run as")
	}
	return Programs{}, errors.New("no initdb found: install PostgreSQL, or set PG_BIN")
}

// childAttr makes a child end with this process, and shields it from Ctrl-C.
func childAttr() syscall.SysProcAttr {
	return syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// Dir makes a directory that the programs may write.
func (p Programs) Dir(parent, name string) (string, error) {
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.Chown(dir, p.UID, p.GID)
}

// Run runs one of the programs and waits for its end.
func (p Programs) Run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, p.path(program), args...)
	cmd.Dir, cmd.Env = dir, p.environment()
	attr := p.attr
	cmd.SysProcAttr = &attr
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out[max(0, len(out)-1000):]))
	}
	return nil
}

// path returns the path of a program of PostgreSQL; a name with a slash is a path already.
func (p Programs) path(program string) string {
	if strings.ContainsRune(program, '/') {
		return program
	}
	return filepath.Join(p.dir, program)
}

func (p Programs) environment() []string {
	return []string{"LC_ALL=C", "TZ=UTC", "PATH=" + p.dir + ":/usr/local/bin:/usr/bin:/bin"}
}

// Cluster is a PostgreSQL server with its own data directory, which listens on a port of loopback.
type Cluster struct {
	Programs Programs
	// Data is the data directory.
	Data string
	Port int
	// Env is added to the server's environment at its next start.
	Env []string

	log     string
	process *process
}

// NewCluster makes an empty cluster in dir, with the service's role, and starts it. The caller stops it.
func NewCluster(ctx context.Context, p Programs, dir string) (*Cluster, error) {
	data, err := p.Dir(dir, "data")
	if err != nil {
		return nil, err
	}
	err = p.Run(ctx, data, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if err != nil {
		return nil, err
	}
	c, err := Adopt(ctx, p, dir)
	if err != nil {
		return nil, err
	}
	return c, c.Exec(ctx, "postgres", "create role passbook login createdb")
}

// Adopt starts a server on the directory data in dir, which exists.
func Adopt(ctx context.Context, p Programs, dir string) (*Cluster, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Programs: p, Data: filepath.Join(dir, "data"), Port: port, log: filepath.Join(dir, "postgres.log")}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop(syscall.SIGQUIT))
	}
	return c, nil
}

// Start starts the server and waits until it is ready.
func (c *Cluster) Start(ctx context.Context) error {
	attr := c.Programs.attr
	p, err := start(c.log, c.Programs.path("postgres"), append(c.Programs.environment(), c.Env...), &attr,
		"-D", c.Data, "-p", strconv.Itoa(c.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		// Only processes are killed, never the machine: written data survives.
		"-c", "fsync=off", "-c", "max_prepared_transactions=4", "-c", "max_connections=300", "-c", "log_checkpoints=off",
		"-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB", "-c", "timezone=UTC")
	if err != nil {
		return err
	}
	c.process = p
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.URL("postgres", "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("postgres ended: %s", tail(c.log))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not respond: %w: %s", err, tail(c.log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server: SIGINT is a fast shutdown, SIGQUIT an immediate one, like a crash. It waits for the end.
func (c *Cluster) Stop(signal syscall.Signal) error {
	if c.process == nil {
		return nil
	}
	return c.process.stop(signal)
}

// Running reports whether the server has not ended.
func (c *Cluster) Running() bool { return c.process != nil && !c.process.hasEnded() }

// URL returns the URL of a database for a role, without a proxy.
func (c *Cluster) URL(role, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", role, c.Port, database)
}

// Addr returns its host:port.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)) }

// Exec runs a script of statements as a superuser.
func (c *Cluster) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres", database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func freePort(ctx context.Context) (int, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}
