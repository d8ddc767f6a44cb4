package testbed

import "syscall"

// childAttr has a child end with this process, and keeps Ctrl-C from it: the benchmark stops it in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
