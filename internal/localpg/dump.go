package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Dump writes the database of a private PostgreSQL, which runs in this process or in another, to a file: one consistent
// snapshot, in the custom format of pg_dump. url is the owner's, as returned by Attach or URL. Only the options DataDir and
// BinDir are used.
func Dump(ctx context.Context, opts Options, url string, to *os.File) error {
	return runClient(ctx, opts, url, "pg_dump", func(cmd *exec.Cmd) { cmd.Stdout = to }, "--format=custom", "--no-owner", "--no-privileges")
}

// Restore loads a dump by Dump into the database of a private PostgreSQL, whole or not at all. It fails if tables with
// the same names exist. It does not restore privileges.
func Restore(ctx context.Context, opts Options, url string, from *os.File) error {
	return runClient(ctx, opts, url, "pg_restore", func(cmd *exec.Cmd) { cmd.Stdin = from },
		"--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
}

// runClient runs one of PostgreSQL's client programs as the user that may use the socket, and waits for its end.
func runClient(ctx context.Context, opts Options, url, program string, connect func(*exec.Cmd), args ...string) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	path, err := filepath.Abs(opts.DataDir)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	data := &dataDir{path: path}
	bin, err := findBinaries(ctx, opts.BinDir, data.haveCluster)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath(bin.path(program)); err != nil {
		return fmt.Errorf("%s of PostgreSQL %d is needed, from the package of its client programs: %w", program, bin.major, err)
	}
	acc, err := chooseAccount(data.clusterDir(bin.major))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, bin.path(program), append(args, "--no-password",
		"--host="+config.Host, "--port="+socketPort, "--username="+config.User, "--dbname="+config.Database)...)
	cmd.Dir = data.clusterDir(bin.major)
	cmd.Env = environment(bin.dir)
	cmd.SysProcAttr = acc.attr()
	var said bytes.Buffer
	cmd.Stderr = &said
	connect(cmd)
	p, err := startProcess(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.done
	if p.err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%s: %w: %s", program, p.err, lastLines(said.Bytes())))
	}
	return nil
}

// customDump begins a file in the custom format of pg_dump.
const customDump = "PGDMP"

// DumpTables returns the tables of a dump that have data. For one of SQL text it returns nil. Like ReadDump it runs pg_restore.
func DumpTables(ctx context.Context, binDir, path string) ([]string, error) {
	text, err := openDump(ctx, binDir, path, "--list")
	if text == nil || err != nil {
		return nil, err
	}
	list, err := io.ReadAll(text)
	if err = errors.Join(err, text.Close()); err != nil {
		return nil, err
	}
	tables := []string{}
	for line := range strings.Lines(string(list)) {
		if _, entry, ok := strings.Cut(line, " TABLE DATA "); ok { // schema, table, owner
			if fields := strings.Fields(entry); len(fields) > 1 {
				tables = append(tables, fields[1])
			}
		}
	}
	return tables, nil
}

// ReadDump returns the data of a table of a dump as SQL text with COPY, and of others too if the dump is one of SQL text. It runs
// pg_restore for other formats, from binDir or the usual places, and needs no database. The caller closes it; if it was read to the
// end, Close returns what pg_restore complained about.
func ReadDump(ctx context.Context, binDir, path, table string) (io.ReadCloser, error) {
	text, err := openDump(ctx, binDir, path, "--data-only", "--table="+table, "--file=-")
	if text == nil && err == nil {
		return os.Open(path)
	}
	return text, err
}

// openDump returns the output of pg_restore for a dump, or nil for one of SQL text.
func openDump(ctx context.Context, binDir, path string, args ...string) (io.ReadCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		custom, err := isCustom(path)
		if err != nil || !custom {
			return nil, err
		}
	}
	bin, err := findBinaries(ctx, binDir, func(int) bool { return false })
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin.path("pg_restore"), append(args, path)...)
	cmd.Env = environment(bin.dir)
	d := &restoring{cmd: cmd}
	cmd.Stderr = &d.said
	if d.ReadCloser, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("pg_restore of PostgreSQL %d is needed, from the package of its client programs: %w", bin.major, err)
	}
	return d, nil
}

// isCustom reports whether a file is in the custom format of pg_dump.
func isCustom(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	magic := make([]byte, len(customDump))
	n, err := io.ReadFull(file, magic)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return string(magic[:n]) == customDump, err
}

// restoring is the output of a pg_restore.
type restoring struct {
	io.ReadCloser
	cmd  *exec.Cmd
	said bytes.Buffer
}

// Close ends pg_restore and waits for it.
func (d *restoring) Close() error {
	_ = d.ReadCloser.Close()
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("pg_restore: %w: %s", err, lastLines(d.said.Bytes()))
	}
	return nil
}
