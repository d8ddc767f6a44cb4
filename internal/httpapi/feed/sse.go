package feed

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrReaderGone says that the reader of a stream has disconnected, or did not receive a piece in time.
var ErrReaderGone = errors.New("feed: the reader has disconnected or is too slow")

const (
	// pieceSize is how many bytes are sent at once, if there are so many.
	pieceSize = 32 << 10
	// reconnectAfter is how long a reader that has lost its stream is asked to wait.
	reconnectAfter = time.Second
)

// Writer writes server-sent events (HTML standard, section 9.2). The format takes a few lines of code, while libraries for it
// also take over the response: its deadlines, its buffer and what is sent again.
type Writer struct {
	send    func(piece []byte) error
	unnamed bool
	lastID  int64 // the reader's Last-Event-ID, a position
	buf     []byte
}

// NewWriter returns a writer that sends pieces with send. With unnamed it omits the names of events.
func NewWriter(send func(piece []byte) error, unnamed bool) *Writer {
	return &Writer{send: send, unnamed: unnamed}
}

// Event adds an event. Neither name nor data may have a line break.
func (w *Writer) Event(name string, data []byte) {
	if !w.unnamed {
		w.buf = append(append(append(w.buf, "event: "...), name...), '\n')
	}
	w.buf = append(append(append(w.buf, "data: "...), data...), "\n\n"...)
}

// Heartbeat adds a comment, which shows that the stream is alive.
func (w *Writer) Heartbeat() { w.buf = append(w.buf, ": heartbeat\n\n"...) }

// Flush sends what was added. Its only error is ErrReaderGone.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.send(w.buf)
	w.buf = w.buf[:0]
	if err != nil {
		return ErrReaderGone
	}
	return nil
}

// Follow sends the events of a stream until it ends. With sayStart it first tells the reader where the stream begins, by an id
// alone. That is no event (HTML standard, section 9.2.6), but some readers take it for an empty one; so only a reader that has
// not chosen where to begin gets it. Follow returns nil when ctx ends or the service stops, ErrReaderGone, or the error of
// Stream.Next.
func (w *Writer) Follow(ctx context.Context, s *Stream, heartbeat time.Duration, sayStart bool) error {
	w.lastID = s.Position()
	w.buf = fmt.Appendf(w.buf, "retry: %d\n", reconnectAfter.Milliseconds())
	if sayStart {
		w.buf = fmt.Appendf(w.buf, "id: %d\n", w.lastID)
	}
	w.buf = append(w.buf, '\n')
	for {
		if err := w.Flush(); err != nil {
			return err
		}
		items, err := s.Next(ctx, heartbeat)
		switch {
		case errors.Is(err, ErrStopping), ctx.Err() != nil:
			return nil //nolint:nilerr // these ends are expected
		case errors.Is(err, ErrQuiet):
			w.progress(s.Position(), true)
		case err != nil:
			return err
		case len(items) == 0:
			w.progress(s.Position(), false)
		}
		for i := range items {
			if err := w.item(&items[i]); err != nil {
				return err
			}
		}
	}
}

// Archived ends a stream that begins in the archive. A reader that reconnects by itself begins at the same position, since any other
// would leave events out.
func (w *Writer) Archived(name string, data []byte) error {
	w.Event(name, data)
	return w.Flush()
}

// WentBack ends a stream whose log has gone back. It clears the reader's Last-Event-ID, so that a reader that reconnects by
// itself begins where its URL says.
func (w *Writer) WentBack(name string, data []byte) error {
	w.buf = append(w.buf, "id:\n"...)
	w.Event(name, data)
	return w.Flush()
}

// item adds an event of the log, and sends a piece when it is full.
func (w *Writer) item(it *Item) error {
	w.lastID = it.Position
	w.buf = append(strconv.AppendInt(append(w.buf, "id: "...), it.Position, 10), '\n')
	w.Event(it.Type, it.JSON)
	if len(w.buf) < pieceSize {
		return nil
	}
	return w.Flush()
}

// progress tells a reader without events how far the feed has read, so that it resumes there.
func (w *Writer) progress(position int64, heartbeat bool) {
	if heartbeat {
		w.buf = append(w.buf, ": heartbeat\n"...)
	}
	if position > w.lastID {
		w.lastID = position
		w.buf = fmt.Appendf(w.buf, "id: %d\n", position)
	}
	if len(w.buf) > 0 {
		w.buf = append(w.buf, '\n')
	}
}
