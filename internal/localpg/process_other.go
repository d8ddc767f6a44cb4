//go:build !linux

package localpg

import "syscall"

// setDeathSignal does nothing: only Linux can tie a child to the end of its parent. The next Start stops a server that a
// killed process left behind.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// clusterProcesses returns the postmaster that postmaster.pid names, if a process of that id exists. certain is
// false because the id may belong to another program by now.
func clusterProcesses(clusterDir string) (pids []int, certain bool) {
	return recordedPostmaster(clusterDir), false
}
