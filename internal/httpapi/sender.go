package httpapi

import (
	"net/http"
	"time"
)

// sender sends an answer that goes on for long, piece by piece. Its caller has patience for each piece, and may be quiet
// between them for as long as the answer likes: Go's HTTP/2 server resets a stream when a deadline passes, whether
// anything is being sent or not, so that none may be left behind.
type sender struct {
	w        http.ResponseWriter
	conn     *http.ResponseController
	patience time.Duration
}

// newSender takes the server's time for a whole answer away.
func newSender(w http.ResponseWriter, patience time.Duration) *sender {
	s := &sender{w: w, conn: http.NewResponseController(w), patience: patience}
	_ = s.conn.SetWriteDeadline(time.Time{})
	return s
}

// send sends a piece. Its error is that of a caller that has gone, or did not take it in time.
func (s *sender) send(piece []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.patience))
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
func (s *sender) end() { _ = s.conn.SetWriteDeadline(time.Now().Add(s.patience)) }
