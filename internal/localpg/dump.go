package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
