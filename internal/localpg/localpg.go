// Package localpg runs Passbook's private PostgreSQL: it finds the installed programs, creates a cluster on the first start,
// locks it for this process, and ends the server when the process ends.
//
// The server listens only on a Unix socket, in a directory that only its user can enter.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	databaseName = "passbook"
	adminRole    = "postgres"
	ownerRole    = "passbook"
	// The service logs in as serviceRole, whose rights are those that the schema's migrations grant to groupRole.
	serviceRole = "passbook_app"
	groupRole   = "passbook_service"

	// logLimit is the size in bytes above which the server's log is renamed at the next start.
	logLimit = 16 << 20
	// quitGrace is how long an immediate shutdown may take; PostgreSQL itself kills remaining processes after 5 s.
	quitGrace = 10 * time.Second
)

// Options configure the private PostgreSQL. Only DataDir is required.
type Options struct {
	// DataDir holds everything that lasts: one directory per major version of PostgreSQL, the lock and the log. Start creates
	// it if necessary. If the process runs as root, other users must be able to pass through every parent.
	DataDir string
	// BinDir is the directory of initdb and postgres (PG_BIN); if empty, they are searched for.
	BinDir string
	// RuntimeDir, such as $XDG_RUNTIME_DIR, holds the directory of the socket if its path is short enough and the user
	// that PostgreSQL runs as can reach it; otherwise /tmp does.
	RuntimeDir string
	// LogFile is the file that the server appends its log to; DataDir/postgres.log if empty.
	LogFile string
	// Settings are additional settings of postgresql.conf. They override Passbook's own, including those for durability,
	// but not the addresses that the server listens on.
	Settings map[string]string
	// Logger logs starts, slow stops and unexpected ends; nil discards.
	Logger *slog.Logger
}

// Server is a running private PostgreSQL. Its methods may be called from several goroutines.
type Server struct {
	log       *slog.Logger
	data      *dataDir
	process   *process
	cluster   string
	socketDir string
	logFile   string
	logStart  int64

	stop    sync.Once
	stopErr error
}

// Start finds PostgreSQL, creates the cluster if there is none, waits for the server of a killed predecessor to end, and
// returns once the database accepts connections. The context limits only the start: the server runs until Stop or the end of the
// process, whichever is first. The caller must call Stop.
//
// Start unsets the PG* variables that PostgreSQL's clients read, so that neither the private PostgreSQL nor its clients
// depend on them. They are for databases that DATABASE_URL names.
//
// It fails with ErrNotInstalled or ErrInUse; other errors say what to do, if that is known.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	s := &Server{log: opts.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := forgetClientSettings(); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	if s.data, err = openDataDir(ctx, opts.DataDir); err != nil {
		return nil, fmt.Errorf("private PostgreSQL: %w", err)
	}
	if err = s.launch(ctx, opts); err == nil {
		err = s.awaitDatabase(ctx)
	}
	if err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitGrace)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("private PostgreSQL: %w", err), s.Stop(stopCtx))
	}
	return s, nil
}

// launch does everything up to and including the start of the server process.
func (s *Server) launch(ctx context.Context, opts Options) error {
	bin, err := findBinaries(ctx, opts.BinDir, s.data.haveCluster)
	if err != nil {
		return err
	}
	acc, err := chooseAccount(s.data.clusterDir(bin.major))
	if err != nil {
		return err
	}
	if !s.data.haveCluster(bin.major) {
		s.log.InfoContext(ctx, "creating a private PostgreSQL", "major", bin.major, "dir", s.data.path, "user", acc.name)
	}
	if s.cluster, err = s.data.ensureCluster(ctx, bin, acc, opts.Settings["fsync"] == "off"); err != nil {
		return err
	}
	socketDir, err := socketDirPath(s.cluster, opts.RuntimeDir, acc)
	if err != nil {
		return err
	}
	if err := awaitPrevious(ctx, s.cluster, socketDir, s.log); err != nil {
		return err
	}
	if err := makeSocketDir(socketDir, acc); err != nil {
		return err
	}
	s.socketDir = socketDir

	logFile, err := s.openLog(opts.LogFile)
	if err != nil {
		return err
	}
	defer logFile.Close() // the child has its own

	// Not bound to the start's context: Stop and the death signal end it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), bin.path("postgres"), serverArgs(s.cluster, socketDir, opts.Settings)...)
	cmd.Dir = s.cluster
	cmd.Env = environment(bin.dir)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = acc.attr()
	// Out of the terminal's process group: Ctrl-C must reach Passbook alone, which stops PostgreSQL last.
	cmd.SysProcAttr.Setpgid = true
	// SIGINT is a fast shutdown: it rolls back open transactions and writes a checkpoint, so the next start has nothing to
	// recover. A checkpoint writes at most shared_buffers; recovery reads at most max_wal_size, which is eight times as much.
	s.process, err = startProcess(cmd, syscall.SIGINT)
	return err
}

// openLog opens the server's log for appending, after renaming one that has grown too large.
func (s *Server) openLog(path string) (*os.File, error) {
	if path == "" {
		path = filepath.Join(s.data.path, "postgres.log")
	}
	s.logFile = path
	if info, err := os.Lstat(path); err == nil && info.Size() > logLimit {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of PostgreSQL: %w", err)
	}
	if s.logStart, err = file.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// awaitDatabase waits until the server accepts connections and the database exists.
func (s *Server) awaitDatabase(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	slow := time.NewTimer(5 * time.Second)
	defer slow.Stop()
	for {
		file, err := readPidFile(s.cluster)
		if err == nil && file.pid == s.process.cmd.Process.Pid && file.status == "ready" {
			return s.ensureDatabase(ctx)
		}
		select {
		case <-tick.C:
		case <-slow.C:
			s.log.InfoContext(ctx, "PostgreSQL is still starting, probably recovering after a crash", "log", s.logFile)
		case <-s.process.done:
			return fmt.Errorf("PostgreSQL did not start: %w: %s", errEnded(s.process.err), s.logTail())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL did not become ready: %w: %s", ctx.Err(), s.logTail())
		}
	}
}

// ensureDatabase makes the roles and the database if they are missing: on the first start, after an upgrade, and after
// the process was killed in the middle of it. It makes the service's role last.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.ServiceURL())
	if err == nil {
		return conn.Close(ctx)
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || (pgErr.Code != "3D000" && pgErr.Code != "28000") { // no such database, no such role
		return err
	}
	// Neither role is a superuser, so that restrictions apply to them.
	err = s.ensure(ctx, "postgres", []step{
		{"CREATE ROLE " + ownerRole + " LOGIN CREATEDB CREATEROLE", "SELECT FROM pg_roles WHERE rolname = '" + ownerRole + "'"},
		{"CREATE ROLE " + groupRole + " NOLOGIN", "SELECT FROM pg_roles WHERE rolname = '" + groupRole + "'"},
		{"CREATE DATABASE " + databaseName + " OWNER " + ownerRole, "SELECT FROM pg_database WHERE datname = '" + databaseName + "'"},
	})
	if err != nil {
		return err
	}
	return s.ensure(ctx, databaseName, []step{
		// The default since PostgreSQL 15: before, every role could make objects in this schema.
		{"GRANT CREATE ON SCHEMA public TO " + ownerRole, ""},
		{"REVOKE CREATE ON SCHEMA public FROM PUBLIC", ""},
		// The owner is a member of the service's role, so that it may end its connections.
		{"CREATE ROLE " + serviceRole + " LOGIN IN ROLE " + groupRole + " ROLE " + ownerRole, "SELECT FROM pg_roles WHERE rolname = '" + serviceRole + "'"},
	})
}

// step is a statement to run unless a query returns a row.
type step struct{ query, unless string }

// ensure runs the outstanding steps in a database, as the administrator.
func (s *Server) ensure(ctx context.Context, database string, steps []step) error {
	admin, err := pgx.Connect(ctx, s.urlFor(adminRole, database))
	if err != nil {
		return err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	for _, one := range steps {
		if one.unless != "" {
			if tag, err := admin.Exec(ctx, one.unless); err != nil {
				return fmt.Errorf("set up the database: %w", err)
			} else if tag.RowsAffected() > 0 {
				continue
			}
		}
		if _, err = admin.Exec(ctx, one.query); err != nil {
			return fmt.Errorf("set up the database: %w", err)
		}
	}
	return nil
}

// URL returns a DATABASE_URL for the database passbook as the role passbook, which owns it, may create databases and
// roles, and is not a superuser. Migrations run as this role.
func (s *Server) URL() string { return s.urlFor(ownerRole, databaseName) }

// ServiceURL returns a URL for the same database as the service's role: a member of passbook_service, with only the
// privileges granted to that group.
func (s *Server) ServiceURL() string { return s.urlFor(serviceRole, databaseName) }

func (s *Server) urlFor(role, database string) string {
	return urlOf(s.socketDir, role, database)
}

// Done returns a channel that is closed when the server has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Err returns, once Done is closed, why the server ended; nil if it shut down normally.
func (s *Server) Err() error {
	if !s.process.exited() || s.process.err == nil {
		return nil
	}
	return fmt.Errorf("private PostgreSQL: %w: %s", errEnded(s.process.err), s.logTail())
}

// Stop shuts the server down, rolling back open transactions, and returns when it has ended and the data directory is
// free. If the context ends first, it ends the server without its final checkpoint, which loses nothing, and still waits
// for it. Later calls return what the first did.
func (s *Server) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		if s.process != nil {
			s.stopErr = s.shutDown(ctx)
		}
		if s.socketDir != "" {
			s.stopErr = errors.Join(s.stopErr, os.RemoveAll(s.socketDir))
		}
		s.stopErr = errors.Join(s.stopErr, s.data.close())
	})
	return s.stopErr
}

func (s *Server) shutDown(ctx context.Context) error {
	s.signal(syscall.SIGINT)
	select {
	case <-s.process.done:
		return nil
	case <-ctx.Done():
	}
	s.log.WarnContext(ctx, "PostgreSQL did not shut down in time; ending it immediately, it will recover at the next start")
	s.signal(syscall.SIGQUIT)
	timer := time.NewTimer(quitGrace)
	defer timer.Stop()
	select {
	case <-s.process.done:
	case <-timer.C:
		s.signal(syscall.SIGKILL)
		<-s.process.done
	}
	return fmt.Errorf("private PostgreSQL: immediate shutdown: %w", ctx.Err())
}

func (s *Server) signal(sig syscall.Signal) {
	if err := s.process.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Error("signalling PostgreSQL failed", "signal", sig.String(), "error", err)
	}
}

// logTail returns the end of what the server has logged since it was started, on one line.
func (s *Server) logTail() string {
	file, err := os.Open(s.logFile)
	if err != nil {
		return "no log: " + err.Error()
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, s.logStart, 64<<10))
	if err != nil {
		return "no log: " + err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ") + " (log: " + s.logFile + ")"
}

// errEnded returns the error of a process that ended, or another if it ended without one.
func errEnded(err error) error {
	if err == nil {
		return errors.New("it ended")
	}
	return err
}
