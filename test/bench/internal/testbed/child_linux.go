package testbed

import "syscall"

// childAttr makes a child end with this process, and shields it from Ctrl-C: the benchmark stops it gracefully.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
