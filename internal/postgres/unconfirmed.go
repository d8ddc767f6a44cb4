package postgres

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A commit waits for the synchronous standby. When that wait is cancelled (by a timeout, pg_cancel_backend, a cancel
// request) PostgreSQL warns, "canceling wait for synchronous replication due to user request", and still reports success:
// the transaction is committed only here, and a failover would lose it. A driver passes a warning to a callback that cannot
// fail the statement. So newFrontend turns the warning into an error on the wire: a notice and an error differ only in their
// first byte (section 55.7 of the manual), and PostgreSQL itself may send an error at that point, for a deferred
// constraint.
//
// The warning has the SQLSTATE of all warnings and a translated text; it is recognised by the routine that raises it, whose
// name has not changed since PostgreSQL 9.1. If a proxy omits the routine, every warning with that SQLSTATE counts: the
// service's statements raise none.
const (
	unconfirmedState   = "01000"
	unconfirmedRoutine = "SyncRepWaitForLSN"
)

const (
	noticeMessage = 'N'
	errorMessage  = 'E'
	readyMessage  = 'Z'
	headerLength  = 5 // the type, and the length of what follows with its own four bytes
)

// newFrontend is a pgconn.Config.BuildFrontend that makes an unconfirmed commit an error.
func newFrontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(&warningReader{from: r}, w)
}

// warningReader passes on the server's messages after inspecting their headers.
type warningReader struct {
	from io.Reader
	// left is how many bytes of the current message are still to be passed on.
	left int
	// part is the beginning of an incomplete message: part of a header or of a notice. ready may be passed on.
	part, ready []byte
	// begun is set once the session has begun: earlier warnings are not about a statement.
	begun bool
}

// Read implements io.Reader.
func (r *warningReader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		if len(r.part) == 0 {
			n, err := r.from.Read(p)
			passed := r.look(p[:n])
			r.part = append(r.part, p[passed:n]...)
			if passed > 0 || err != nil || n == 0 {
				return passed, err
			}
			continue
		}
		rest := make([]byte, missing(r.part))
		n, err := r.from.Read(rest)
		r.part = append(r.part, rest[:n]...)
		if err != nil {
			return 0, err
		}
		passed := r.look(r.part)
		r.ready, r.part = r.part[:passed], append([]byte(nil), r.part[passed:]...)
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// missing returns how many more bytes are needed to recognise the message.
func missing(part []byte) int {
	if len(part) < headerLength {
		return headerLength - len(part)
	}
	return 1 + int(binary.BigEndian.Uint32(part[1:])) - len(part)
}

// look goes from header to header, and returns how much of b may be passed on.
func (r *warningReader) look(b []byte) int {
	at := min(r.left, len(b))
	r.left -= at
	for len(b)-at >= headerLength {
		length := 1 + int(binary.BigEndian.Uint32(b[at+1:]))
		switch b[at] {
		case readyMessage:
			r.begun = true
		case noticeMessage:
			if len(b)-at < length {
				return at
			}
			if r.begun && isUnconfirmed(b[at+headerLength:at+length]) {
				b[at] = errorMessage
			}
		}
		passed := min(length, len(b)-at)
		at, r.left = at+passed, length-passed
	}
	return at
}

// isUnconfirmed reports whether a notice is the warning. Its fields are a letter and a zero-terminated string each.
func isUnconfirmed(fields []byte) bool {
	var state, routine string
	for len(fields) > 1 {
		value, rest, _ := bytes.Cut(fields[1:], []byte{0})
		switch fields[0] {
		case 'C':
			state = string(value)
		case 'R':
			routine = string(value)
		}
		fields = rest
	}
	return state == unconfirmedState && (routine == unconfirmedRoutine || routine == "")
}
