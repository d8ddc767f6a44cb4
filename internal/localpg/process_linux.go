package localpg

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func setDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// clusterProcesses returns the ids of the postgres processes that work in clusterDir, including those that a postmaster
// left behind: each has the data directory as its working directory. certain is true because the result does not depend
// on postmaster.pid, whose process id may meanwhile belong to another program.
func clusterProcesses(clusterDir string) (pids []int, certain bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return recordedPostmaster(clusterDir), false
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		proc := filepath.Join("/proc", entry.Name())
		if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || cwd != clusterDir {
			continue
		}
		if exe, err := os.Readlink(filepath.Join(proc, "exe")); err == nil && isPostgres(exe) {
			pids = append(pids, pid)
		}
	}
	return pids, true
}

// isPostgres reports by the path of its program whether a process is PostgreSQL. The kernel marks the path of a program
// that was replaced, for example by an upgrade.
func isPostgres(exe string) bool {
	name := filepath.Base(exe)
	return name == "postgres" || name == "postgres (deleted)"
}
