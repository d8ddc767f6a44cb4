package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// previousGrace is how long the previous postmaster may take to end: it was sent a fast shutdown when its parent
	// died, and may have a checkpoint to write.
	previousGrace = 5 * time.Second
	// previousLimit is how long Start waits for it in total.
	previousLimit = 20 * time.Second
	pollInterval  = 5 * time.Millisecond
)

// pidFile is the relevant part of postmaster.pid. Its lines are, in order: process id, data directory, start time, port,
// socket directory, listen address, shared memory key, status (src/include/utils/pidfile.h).
type pidFile struct {
	pid       int
	socketDir string
	status    string
}

// readPidFile reads postmaster.pid, which may be half written: missing fields are empty.
func readPidFile(clusterDir string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(clusterDir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := append(strings.Split(string(text), "\n"), make([]string, 8)...)
	pid, _ := strconv.Atoi(strings.TrimSpace(lines[0]))
	return pidFile{pid: pid, socketDir: lines[4], status: strings.TrimSpace(lines[7])}, nil
}

// recordedPostmaster returns the process that postmaster.pid names, if there is one.
func recordedPostmaster(clusterDir string) []int {
	file, err := readPidFile(clusterDir)
	if err != nil || file.pid <= 0 || syscall.Kill(file.pid, 0) != nil {
		return nil
	}
	return []int{file.pid}
}

// awaitPrevious returns once no PostgreSQL works in clusterDir. The caller holds the lock of the data directory, so
// one that does is either left over from a killed Passbook and shutting down (it has our socket directory, and is
// signalled again if it takes too long), or was started by another program, which is an error.
func awaitPrevious(ctx context.Context, clusterDir, socketDir string, log *slog.Logger) error {
	start := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var logged, forced bool
	for {
		pids, certain := clusterProcesses(clusterDir)
		if len(pids) == 0 {
			return removeStalePidFile(clusterDir, certain)
		}
		file, err := readPidFile(clusterDir)
		// The name alone identifies it: the parent directory may have changed since (socketDirPath).
		if err == nil && file.socketDir != "" && filepath.Base(file.socketDir) != filepath.Base(socketDir) {
			return fmt.Errorf("a PostgreSQL that Passbook did not start (process %d) is running in %s: stop it first",
				file.pid, clusterDir)
		}
		if !logged {
			logged = true
			log.InfoContext(ctx, "waiting for the PostgreSQL of the last run to shut down", "pids", pids)
			// Without a death signal (setDeathSignal) it does not know yet that its parent died; otherwise this changes nothing.
			signalPostmaster(file.pid, pids, syscall.SIGINT)
		}
		waited := time.Since(start)
		if waited > previousGrace && !forced {
			forced = true
			signalPostmaster(file.pid, pids, syscall.SIGQUIT)
		}
		if waited > previousLimit {
			return fmt.Errorf("the PostgreSQL of the last run (processes %v in %s) does not shut down", pids, clusterDir)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signalPostmaster signals the postmaster, if it is among the processes seen in the data directory.
func signalPostmaster(postmaster int, seen []int, sig syscall.Signal) {
	if postmaster > 0 && slices.Contains(seen, postmaster) {
		_ = syscall.Kill(postmaster, sig) // it may have ended already, which is the goal
	}
}

// removeStalePidFile removes a postmaster.pid whose process id now belongs to another program, which happens in
// containers, where ids are small and start over. PostgreSQL itself would refuse to start. It removes the file only if
// certainly no process works in the directory.
func removeStalePidFile(clusterDir string, certain bool) error {
	if !certain {
		return nil
	}
	err := os.Remove(filepath.Join(clusterDir, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
