//go:build !linux

package testbed

import "syscall"

// childAttr shields a child from Ctrl-C: the benchmark stops it gracefully.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
