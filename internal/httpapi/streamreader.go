package httpapi

import (
	"context"
	"io"
	"net/http"
	"time"
)

// commandPieces is how many piece timeouts one command may take to arrive.
const commandPieces = 10

// streamReader reads a long body piece by piece. Each piece must arrive in time, and so must everything read between two calls of
// begin: a client that sends a byte now and then is cut off. No deadline stays set: Go's HTTP/2 server would reset the stream
// when it passes, even while nothing is being read, and its HTTP/1.1 server would assume that the client has disconnected.
type streamReader struct {
	body         io.Reader
	conn         *http.ResponseController
	done         <-chan struct{} // closed before a past deadline interrupts a read
	pieceTimeout time.Duration
	began        time.Time
}

func newStreamReader(ctx context.Context, conn *http.ResponseController, body io.Reader, pieceTimeout time.Duration) *streamReader {
	s := &streamReader{body: body, conn: conn, done: ctx.Done(), pieceTimeout: pieceTimeout}
	s.begin()
	return s
}

// begin starts the time of the next command.
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
