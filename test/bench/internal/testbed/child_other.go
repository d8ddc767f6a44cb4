//go:build !linux

package testbed

import "syscall"

// childAttr keeps Ctrl-C from a child: the benchmark stops it in order.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
