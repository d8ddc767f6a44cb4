// Package testbed sets up what a benchmark runs against: a private PostgreSQL with the settings of production, databases
// in it, and processes of the server. It also measures their use of the machine.
package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"passbook/internal/localpg"
)

// superuser is the role the private PostgreSQL is made with; its socket lets every role in.
const superuser = "postgres"

// Options configure a Testbed.
type Options struct {
	// Dir is the directory in which a temporary one is made; the system's when empty.
	Dir string
	// Keep is a directory to use instead of a temporary one, possibly with the data of an earlier Testbed. It is not removed.
	Keep string
	// PGBin is the directory of PostgreSQL's programs; if empty, they are searched for.
	PGBin string
	// Server is the path of the server's binary.
	Server string
	// Path is the PATH of the processes that are started.
	Path string
}

// Testbed is a running private PostgreSQL and a directory for the files of a run.
type Testbed struct {
	// PostgresVersion is the server's version.
	PostgresVersion string

	opts     Options
	dir      string
	postgres *localpg.Server
	bin      string // of PostgreSQL's programs
	runs     int    // names what each run leaves
}

// Database is a database of the Testbed.
type Database struct {
	Name string
	// URL is for the role the server has, AdminURL for a superuser.
	URL, AdminURL string
}

// New starts a PostgreSQL on an empty data directory. The caller closes the Testbed.
func New(ctx context.Context, opts Options) (_ *Testbed, err error) {
	dir, err := opts.directory()
	if err != nil {
		return nil, err
	}
	s := &Testbed{opts: opts, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	// As root, PostgreSQL runs as another user, who must be able to enter.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	if s.postgres, err = localpg.Start(ctx, localpg.Options{DataDir: s.path("postgres"), BinDir: opts.PGBin}); err != nil {
		return nil, err
	}
	// The columns are those of the programs that run, so pgbench is of the same version.
	err = s.admin(ctx, "postgres", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `select (select setting from pg_config where name = 'BINDIR'), current_setting('server_version')`).
			Scan(&s.bin, &s.PostgresVersion)
	})
	return s, err
}

func (o *Options) directory() (string, error) {
	if o.Keep != "" {
		return o.Keep, os.MkdirAll(o.Keep, 0o711)
	}
	return os.MkdirTemp(o.Dir, "passbook-bench-")
}

// Close stops PostgreSQL and removes the directory, unless it is to be kept.
func (s *Testbed) Close() error {
	var err error
	if s.postgres != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err = s.postgres.Stop(ctx)
	}
	if s.opts.Keep != "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Testbed) path(name string) string { return filepath.Join(s.dir, name) }

// next names something that a run leaves in the directory.
func (s *Testbed) next(kind string) string {
	s.runs++
	return s.path(kind + "-" + strconv.Itoa(s.runs))
}

// database is how to reach a database by name.
func (s *Testbed) database(name string) Database {
	u, err := url.Parse(s.postgres.URL())
	if err != nil {
		panic(err) // localpg has made it
	}
	u.Path = "/" + name
	d := Database{Name: name, URL: u.String()}
	q := u.Query()
	q.Set("user", superuser)
	u.RawQuery = q.Encode()
	d.AdminURL = u.String()
	return d
}

// admin runs fn on a superuser's connection.
func (s *Testbed) admin(ctx context.Context, database string, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.database(database).AdminURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return fn(conn)
}

// Exec runs statements as a superuser, each in a separate transaction.
func (s *Testbed) Exec(ctx context.Context, d Database, statements ...string) error {
	return s.admin(ctx, d.Name, func(conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				first, _, _ := strings.Cut(statement, "\n")
				return fmt.Errorf("%s: %w", first, err)
			}
		}
		return nil
	})
}

// CreateDatabase makes an empty database that the server's role owns.
func (s *Testbed) CreateDatabase(ctx context.Context, name string) (Database, error) {
	d := s.database(name)
	return d, s.Exec(ctx, s.database("postgres"),
		"create database "+pgx.Identifier{name}.Sanitize()+" owner passbook")
}

// EnsureDatabase makes an empty database that the server's role owns, unless there is one of the name.
func (s *Testbed) EnsureDatabase(ctx context.Context, name string) (Database, error) {
	var there bool
	d := s.database(name)
	if err := s.Scan(ctx, s.database("postgres"), fmt.Sprintf(`select exists (select from pg_database where datname = '%s')`, name), &there); err != nil || there {
		return d, err
	}
	return s.CreateDatabase(ctx, name)
}

// Scan asks a database for one row, as a superuser.
func (s *Testbed) Scan(ctx context.Context, d Database, query string, into ...any) error {
	return s.admin(ctx, d.Name, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, query).Scan(into...) })
}

// DropDatabase removes a database, even if it is in use.
func (s *Testbed) DropDatabase(ctx context.Context, d Database) error {
	return s.Exec(ctx, s.database("postgres"), "drop database "+pgx.Identifier{d.Name}.Sanitize()+" with (force)")
}

// Checkpoint makes a checkpoint, so that every round begins alike.
func (s *Testbed) Checkpoint(ctx context.Context) error {
	return s.Exec(ctx, s.database("postgres"), "checkpoint")
}

// Timed runs a statement as a superuser, and returns how long it took
// and how many rows it touched.
func (s *Testbed) Timed(ctx context.Context, d Database, statement string) (took time.Duration, rows int64, err error) {
	err = s.admin(ctx, d.Name, func(conn *pgx.Conn) error {
		start := time.Now()
		tag, err := conn.Exec(ctx, statement)
		took, rows = time.Since(start), tag.RowsAffected()
		return err
	})
	return took, rows, err
}
