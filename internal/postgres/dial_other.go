//go:build !linux

package postgres

import "syscall"

// limitUnacked does nothing: there is no portable way. Keep-alives detect a silent machine on an idle connection.
func limitUnacked(_, _ string, _ syscall.RawConn) error { _ = unackedTimeout; return nil }
