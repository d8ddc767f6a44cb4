//go:build !linux

package postgres

import "syscall"

// limitUnacked has no portable way; keep-alives find a silent machine once nothing is under way.
func limitUnacked(_, _ string, _ syscall.RawConn) error { _ = unackedTimeout; return nil }
