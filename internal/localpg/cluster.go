package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockGrace is how long Start waits for the lock.
const lockGrace = time.Second

// ErrInUse means that another process holds the data directory.
var ErrInUse = errors.New("the data directory is in use")

// dataDir is the directory of all data, with one subdirectory per major version of PostgreSQL.
type dataDir struct {
	path string   // absolute, free of symbolic links
	lock *os.File // holds an flock for as long as it is open
}

// openDataDir makes the directory if necessary and takes its lock, or fails with ErrInUse.
func openDataDir(ctx context.Context, path string) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("no data directory given")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// The private PostgreSQL of a root process runs as another user, who must be able to pass through.
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	if err := letThrough(path); err != nil {
		return nil, err
	}
	lock, err := takeLock(ctx, filepath.Join(path, "lock"))
	if err != nil {
		return nil, err
	}
	return &dataDir{path: path, lock: lock}, nil
}

// letThrough lets other users pass through a directory of root's, as made by mktemp -d, so that the user that PostgreSQL
// runs as can reach its own subdirectory. They cannot list it.
func letThrough(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != 0 || info.Mode()&0o001 != 0 {
		return nil
	}
	return os.Chmod(path, info.Mode().Perm()|0o011)
}

// takeLock locks the file at path and writes the process id into it, for the message to a second process. The
// kernel drops the lock when the process ends, however it ends; children do not inherit it.
func takeLock(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: the data directory belongs to another user: run as that user, "+
			"or use another PASSBOOK_DATA_DIR", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	if err := flock(ctx, file); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, _ := os.ReadFile(path) // only for the message
		return nil, fmt.Errorf("%w: another Passbook (process %s) runs on %s: stop it, or give this one another PASSBOOK_DATA_DIR",
			ErrInUse, strings.TrimSpace(string(holder)), filepath.Dir(path))
	}
	if err := errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	return file, nil
}

// flock retries for lockGrace, because a process that was just killed holds its lock until the kernel has removed it.
func flock(ctx context.Context, file *os.File) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for deadline := time.Now().Add(lockGrace); ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

func (d *dataDir) close() error { return d.lock.Close() }

func (d *dataDir) clusterDir(major int) string {
	return filepath.Join(d.path, "postgres-"+strconv.Itoa(major))
}

func (d *dataDir) haveCluster(major int) bool {
	_, err := os.Stat(d.clusterDir(major))
	return err == nil
}

// otherMajors lists the data directories of other major versions.
func (d *dataDir) otherMajors(major int) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, entry := range entries {
		version, ok := strings.CutPrefix(entry.Name(), "postgres-")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(version); err == nil && n != major {
			others = append(others, filepath.Join(d.path, entry.Name()))
		}
	}
	return others, nil
}

// ensureCluster returns the directory of the cluster of bin's major version, made by initdb if there is none yet. It
// fails if there is only data of another major version: this one cannot read it, and an empty database in its place
// would look like loss.
func (d *dataDir) ensureCluster(ctx context.Context, bin binaries, acc account, noSync bool) (string, error) {
	dir := d.clusterDir(bin.major)
	probe := func(dir string) error { return runAs(ctx, acc, dir, bin, "postgres", "--version") }
	if d.haveCluster(bin.major) {
		version, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
		if err != nil {
			return "", fmt.Errorf("%s is not a PostgreSQL data directory: %w", dir, err)
		}
		if got := strings.TrimSpace(string(version)); got != strconv.Itoa(bin.major) {
			return "", fmt.Errorf("%s holds data of PostgreSQL %s, not %d", dir, got, bin.major)
		}
		return dir, acc.checkReachable(dir, probe)
	}
	others, err := d.otherMajors(bin.major)
	if err != nil {
		return "", err
	}
	if len(others) > 0 {
		return "", fmt.Errorf("PostgreSQL %d (in %s) cannot read the data in %s, which is of another major version: "+
			"install that version, or set PG_BIN to its directory of programs, or move the data away to start empty "+
			"(pg_upgrade or pg_dump carry it over)", bin.major, bin.dir, strings.Join(others, " and "))
	}
	return dir, d.initCluster(ctx, dir, bin, acc, noSync, probe)
}

// initCluster runs initdb in a temporary directory and renames it, so that a cluster is complete or absent.
func (d *dataDir) initCluster(
	ctx context.Context, dir string, bin binaries, acc account, noSync bool, probe func(string) error,
) error {
	// Left behind by an earlier attempt; the lock shows that none is still running.
	stale, err := filepath.Glob(filepath.Join(d.path, "initdb-*"))
	if err != nil {
		return err
	}
	for _, path := range stale {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove what an interrupted initdb left: %w", err)
		}
	}
	temp, err := os.MkdirTemp(d.path, "initdb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if acc.switched {
		if err := os.Chown(temp, int(acc.uid), int(acc.gid)); err != nil {
			return fmt.Errorf("give %s to user %s: %w", temp, acc.name, err)
		}
	}
	if err := acc.checkReachable(temp, probe); err != nil {
		return err
	}
	// A client that can open the socket may use any role: the socket is in a directory that only the user PostgreSQL
	// runs as, and root, can enter. There is no TCP port to protect.
	args := []string{
		"--pgdata=" + temp, "--username=" + adminRole, "--encoding=UTF8", "--locale=C", "--data-checksums",
		"--auth-local=trust", "--auth-host=reject", "--no-instructions",
	}
	if noSync {
		args = append(args, "--no-sync")
	}
	if err := runAs(ctx, acc, temp, bin, "initdb", args...); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return err
	}
	return syncDir(d.path)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// runAs runs one of the programs as the account, in a directory of the account's, and waits for its end.
func runAs(ctx context.Context, acc account, dir string, bin binaries, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, bin.path(program), args...)
	cmd.Dir = dir
	cmd.Env = environment(bin.dir)
	cmd.SysProcAttr = acc.attr()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	p, err := startProcess(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", program, p.err, lastLines(output.Bytes()))
	}
	return nil
}

// lastLines returns the end of a program's output, on one line.
func lastLines(output []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(output), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-5):], []byte("; "))
}

// serverArgs returns the arguments of postgres. They take precedence over every configuration file, so that an edit there
// cannot make commits less durable; extra takes precedence over them, for tests.
func serverArgs(clusterDir, socketDir string, extra map[string]string) []string {
	settings := map[string]string{
		"fsync":              "on",
		"synchronous_commit": "on",
		"full_page_writes":   "on",
		"timezone":           "UTC",
		"log_timezone":       "UTC",
		"log_checkpoints":    "off",
		"logging_collector":  "off",
		"log_destination":    "stderr",
	}
	maps.Copy(settings, extra)
	settings["listen_addresses"] = ""
	settings["port"] = socketPort
	settings["unix_socket_directories"] = socketDir
	settings["unix_socket_permissions"] = "0700"

	args := []string{"-D", clusterDir}
	for name, value := range settings {
		args = append(args, "--"+name+"="+value)
	}
	slices.Sort(args[2:])
	return args
}
