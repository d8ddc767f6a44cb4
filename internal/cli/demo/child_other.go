//go:build !linux

package demo

import "syscall"

// childAttr keeps Ctrl-C from the server: it is stopped in order.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
