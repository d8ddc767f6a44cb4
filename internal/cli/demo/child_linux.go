package demo

import "syscall"

// childAttr makes the server end with this process, and shields it from Ctrl-C: close stops it gracefully.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
