//go:build !linux

package demo

import "syscall"

// childAttr shields the server from Ctrl-C: close stops it gracefully.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
