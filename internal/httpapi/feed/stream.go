package feed

import (
	"context"
	"time"
)

// retryAfter is how long a stream waits before it queries an unavailable database again.
const retryAfter = 500 * time.Millisecond

// Stream is one reader of the live feed. One goroutine uses it, and must close it.
type Stream struct {
	feed     *Feed
	filter   Filter
	position int64
	closed   bool
	wentBack <-chan struct{} // the feed's at the time of Open
	ready    chan struct{}   // one slot: the feed may have something for the stream

	// Guarded by feed.mu: what the tailer has for a live stream, all that the filter selects up to upTo.
	buffer []Item
	upTo   int64
}

// Open begins a stream after a position, or, if that is negative, at the current end of the log. It returns ErrTooManyStreams and
// ErrStopping.
func (f *Feed) Open(ctx context.Context, after int64, filter Filter) (*Stream, error) {
	select {
	case <-f.stopping:
		return nil, ErrStopping
	default:
	}
	f.mu.Lock()
	if f.open >= f.maxStreams {
		f.mu.Unlock()
		return nil, ErrTooManyStreams
	}
	if f.open == 0 {
		f.seen = Point{} // no stream was sent anything
	}
	f.open++
	s := &Stream{feed: f, filter: filter, position: after, wentBack: f.wentBack, ready: make(chan struct{}, 1)}
	f.mu.Unlock()
	if after < 0 {
		var err error
		if s.position, err = f.look(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Position returns the last position read: everything up to it that the filter selects has been returned.
func (s *Stream) Position() int64 {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if len(s.buffer) == 0 {
		s.position = max(s.position, s.upTo)
	}
	return s.position
}

// Close makes room for another stream. It may be called more than once.
func (s *Stream) Close() {
	if s.closed {
		return
	}
	s.closed = true
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	delete(f.live, s)
}

// Next waits for events and returns them. It may return none if it has only read on in the log. If nothing arrives within the
// given time it returns ErrQuiet, and should be called again: a read in progress is not lost. It ends with ErrStopping, with
// ErrWentBack, with *ArchivedError, with the error of ctx, or with another permanent error of the log.
func (s *Stream) Next(ctx context.Context, wait time.Duration) ([]Item, error) {
	quiet := time.NewTimer(wait)
	defer quiet.Stop()
	for {
		select {
		case <-s.feed.stopping:
			return nil, ErrStopping
		case <-s.wentBack:
			return nil, ErrWentBack
		default:
		}
		items, live := s.take()
		if len(items) > 0 {
			return items, nil
		}
		if !live {
			items, moved, err := s.read(ctx, quiet.C)
			if moved || err != nil {
				return items, err
			}
			continue
		}
		select {
		case <-s.ready:
		case <-quiet.C:
			return nil, ErrQuiet
		case <-s.feed.stopping:
			return nil, ErrStopping
		case <-s.wentBack:
			return nil, ErrWentBack
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take empties the buffer, and reports whether the stream is live.
func (s *Stream) take() (items []Item, live bool) {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	items, s.buffer = s.buffer, nil
	s.position = max(s.position, s.upTo)
	_, live = s.feed.live[s]
	return items, live
}

// offer adds the items that the stream lacks to its buffer; they end at position upTo. It returns false, and does nothing, if
// there is no room. feed.mu is held.
func (s *Stream) offer(items []Item, upTo int64) bool {
	before := len(s.buffer)
	for i := range items {
		if items[i].Position <= s.upTo || !s.filter.takes(&items[i]) {
			continue
		}
		if len(s.buffer) == maxBuffered+batchSize {
			s.buffer = s.buffer[:before]
			return false
		}
		s.buffer = append(s.buffer, items[i])
	}
	s.upTo = max(s.upTo, upTo)
	if len(s.buffer) > before {
		s.wake()
	}
	return true
}

func (s *Stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// page reads the next piece of the log. A stream may begin at a position that the log does not reach.
func (s *Stream) page(ctx context.Context) (Page, error) {
	head, err := s.feed.look(ctx)
	if err != nil {
		return Page{}, err
	}
	if s.position > head {
		_, held, err := s.feed.log.Look(ctx, Point{Position: s.position})
		if err == nil && !held {
			err = ErrWentBack
		}
		if err != nil {
			return Page{}, err
		}
	}
	return s.feed.page(ctx, s.position, head, s.filter, batchSize)
}

// read reads the log itself. At its end the stream attaches to the tailer, or, if that is not possible, waits a little.
func (s *Stream) read(ctx context.Context, quiet <-chan time.Time) (items []Item, moved bool, err error) {
	page, err := s.page(ctx)
	wait := s.feed.poll
	switch {
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case err != nil && !s.feed.transient(err):
		return nil, false, err
	case err != nil:
		wait = retryAfter
	case page.UpTo > s.position:
		s.position = page.UpTo
		return page.Items, true, nil
	case s.feed.attach(s, page.Head):
		return nil, false, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil, false, nil
	case <-quiet:
		return nil, false, ErrQuiet
	case <-s.feed.stopping:
		return nil, false, ErrStopping
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}
