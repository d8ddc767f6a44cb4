package demo

import "syscall"

// childAttr has the server end with this process, and keeps Ctrl-C from it: it is stopped in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
