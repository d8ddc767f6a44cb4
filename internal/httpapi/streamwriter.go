package httpapi

import (
	"net/http"
	"time"
)

// streamWriter sends a long response piece by piece. The client must take each piece within a time; between pieces there
// is no limit. Go's HTTP/2 server resets a stream when a deadline passes, whether anything is being sent or not, so none
// may be left set.
type streamWriter struct {
	w            http.ResponseWriter
	conn         *http.ResponseController
	pieceTimeout time.Duration
}

// newStreamWriter lifts the server's limit on the time for a whole response; pieceTimeout is for one piece.
func newStreamWriter(w http.ResponseWriter, pieceTimeout time.Duration) *streamWriter {
	s := &streamWriter{w: w, conn: http.NewResponseController(w), pieceTimeout: pieceTimeout}
	_ = s.conn.SetWriteDeadline(time.Time{})
	return s
}

// send sends a piece. Its error is that of a client that has gone, or did not take it in time.
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

// end leaves time for what net/http sends once the handler has returned.
func (s *streamWriter) end() { _ = s.conn.SetWriteDeadline(time.Now().Add(s.pieceTimeout)) }
