package postgres

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A commit waits for the synchronous standby. When that wait is cancelled (by a timeout, pg_cancel_backend, a cancel
// request) PostgreSQL warns, "canceling wait for synchronous replication due to user request", and reports success as if all were
// well: the transaction is committed here and nowhere else, and a failover would lose it. A driver passes a warning to a
// callback that cannot fail the statement. So the warning is made the error that it should be, on the wire: a notice and an
// error differ in their first byte only (section 55.7 of the manual), and PostgreSQL may send an error at that place
// itself, for a deferred constraint.
//
// The warning has the SQLSTATE of all warnings and a translated text; it is recognised by the routine that raises it, whose
// name is the same since PostgreSQL 9.1. Where something in between leaves that out, each warning of that SQLSTATE counts:
// the statements of the service raise none.
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

// newFrontend is pgconn's BuildFrontend of connections on which an unconfirmed commit is an error.
func newFrontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(&warningReader{from: r}, w)
}

// warningReader passes messages of the server on, after it has looked at their headers.
type warningReader struct {
	from io.Reader
	// left is how much of a message that may pass is still to come.
	left int
	// part is the begin of a message that cannot be told yet: a part of a header, or of a notice. ready may pass.
	part, ready []byte
	// begun is set once the session is: what PostgreSQL warns of before is not about a statement.
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

// missing is how many bytes have to be read at least before more is known of a message.
func missing(part []byte) int {
	if len(part) < headerLength {
		return headerLength - len(part)
	}
	return 1 + int(binary.BigEndian.Uint32(part[1:])) - len(part)
}

// look goes from header to header, and says how much of b may pass.
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

// isUnconfirmed looks at the fields of a notice: each a letter and a string that ends with a zero.
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
