package httpapi

import (
	"net/http"
	"time"
)

// streamWriter sends a long response piece by piece. The client must take each piece in time; between pieces there is no limit.
// Go's HTTP/2 server resets a stream when a deadline passes, even while nothing is being sent, so no deadline may stay set.
type streamWriter struct {
	w            http.ResponseWriter
	conn         *http.ResponseController
	pieceTimeout time.Duration
}

// newStreamWriter lifts the server's limit on the time for a whole response; pieceTimeout limits each piece.
func newStreamWriter(w http.ResponseWriter, pieceTimeout time.Duration) *streamWriter {
	s := &streamWriter{w: w, conn: http.NewResponseController(w), pieceTimeout: pieceTimeout}
	_ = s.conn.SetWriteDeadline(time.Time{})
	return s
}

// send sends a piece. It fails when the client has disconnected or did not take the piece in time.
func (s *streamWriter) send(piece []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.pieceTimeout))
	if _, err := s.w.Write(piece); err != nil {
		return err
	}
	if err := s.conn.Flush(); err != nil {
		return err
	}
	_ = s.conn.SetWriteDeadline(time.Time{})
	return nil
}

// end sets the deadline for what net/http sends after the handler returns.
func (s *streamWriter) end() { _ = s.conn.SetWriteDeadline(time.Now().Add(s.pieceTimeout)) }
