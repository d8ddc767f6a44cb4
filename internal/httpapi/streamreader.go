package httpapi

import (
	"context"
	"io"
	"net/http"
	"time"
)

// commandPieces is how many times the timeout of a piece a whole command may take to arrive.
const commandPieces = 10

// streamReader reads a long body piece by piece. Each piece must arrive within a time, and so must all that is read between two
// calls of begin, so that a client that sends a byte now and then cannot go on for ever. It leaves no deadline set: Go's HTTP/2
// server resets the stream when one passes, whether anything is being read or not, and its HTTP/1.1 server would take the
// client for gone.
type streamReader struct {
	body         io.Reader
	conn         *http.ResponseController
	done         <-chan struct{} // closed before a read is interrupted with a deadline in the past
	pieceTimeout time.Duration
	began        time.Time
}

func newStreamReader(ctx context.Context, conn *http.ResponseController, body io.Reader, pieceTimeout time.Duration) *streamReader {
	s := &streamReader{body: body, conn: conn, done: ctx.Done(), pieceTimeout: pieceTimeout}
	s.begin()
	return s
}

// begin says that the next command is read from now on.
func (s *streamReader) begin() { s.began = time.Now() }

func (s *streamReader) Read(p []byte) (int, error) {
	deadline := time.Now().Add(s.pieceTimeout)
	if last := s.began.Add(commandPieces * s.pieceTimeout); last.Before(deadline) {
		deadline = last
	}
	_ = s.conn.SetReadDeadline(deadline)
	select {
	case <-s.done:
		return 0, context.Canceled
	default:
	}
	n, err := s.body.Read(p)
	_ = s.conn.SetReadDeadline(time.Time{})
	return n, err
}
