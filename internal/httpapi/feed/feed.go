package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Bounds of the feed.
const (
	// MaxLimit is the size of the largest page, in events.
	MaxLimit = 1000
	// scanWindow is how many positions one page searches for events of a type.
	scanWindow = 50_000
	// batchSize is how many events are read at once for a stream, or for all of them.
	batchSize = 256
	// maxBuffered is how many events may wait for a stream before it is detached, and how many recent ones are kept for streams
	// that join.
	maxBuffered = 512
)

var (
	// ErrTooManyStreams says that the limit of open streams is reached.
	ErrTooManyStreams = errors.New("too many streams of events are open")
	// ErrQuiet says that no event arrived within the time that the caller would wait.
	ErrQuiet = errors.New("no event has arrived in time")
	// ErrStopping ends all streams when the service stops.
	ErrStopping = errors.New("the feed is stopping")
	// ErrWentBack says that the log no longer holds what was read from it, or does not reach the position to begin after: it has
	// lost its latest events. It ends all open streams; the log may not hold what they were sent.
	ErrWentBack = errors.New("the log has gone back")
)

// ArchivedError says that events after a position are only in an archive. First is the first position from which on the log has all.
type ArchivedError struct{ First int64 }

func (e *ArchivedError) Error() string {
	return fmt.Sprintf("the events before position %d are in the archive", e.First)
}

// Filter selects events. Its zero value selects all.
type Filter struct {
	// Type is an event type; empty means all.
	Type string
	// Subject is an account; the zero UUID means all.
	Subject uuid.UUID
}

func (f *Filter) takes(it *Item) bool {
	return (f.Type == "" || f.Type == it.Type) && (f.Subject == uuid.Nil || f.Subject == it.Subject)
}

// Point is a position of the log and the event at it; the zero ID stands for any event.
type Point struct {
	Position int64
	ID       uuid.UUID
}

// Log is a log whose positions run from 1 without a gap, and which loses nothing but its latest events. The first ones may be in an
// archive.
type Log interface {
	// Look returns the last event, and whether the log holds the event seen, both as of one moment. It always holds the zero
	// Point, and what is in the archive.
	Look(ctx context.Context, seen Point) (head Point, held bool, err error)
	// Read returns in order the events that the filter selects, at most limit of them, after one position and up to another that
	// is not beyond the head. The error is *ArchivedError if some of them are only in the archive.
	Read(ctx context.Context, after, upTo int64, f Filter, limit int) ([]Event, error)
}

// Config configures a Feed. Log and Logger are required.
type Config struct {
	Log    Log
	Logger *slog.Logger
	// Naming's zero value stands for DefaultNaming.
	Naming Naming
	// Transient reports whether an error is that of an unavailable database: streams wait until it recovers. Any other error ends
	// them.
	Transient func(error) bool
	// MaxStreams is how many streams may be open at once; 0 means 128.
	MaxStreams int
	// Poll is how often the log is read while there are streams and nothing calls Wake; 0 means 100 ms.
	Poll time.Duration
}

// Feed is safe for concurrent use.
type Feed struct {
	log        Log
	naming     Naming
	logger     *slog.Logger
	transient  func(error) bool
	maxStreams int
	poll       time.Duration

	wake     chan struct{} // one slot: the log may have grown
	looking  chan struct{} // a one-slot semaphore for looking at the head
	stopping chan struct{} // closed by Stop
	stop     sync.Once

	mu   sync.Mutex
	open int
	live map[*Stream]struct{}
	// seen is the latest event that any look has found while there were streams. No stream is sent what comes after it, and each
	// look first checks that the log still holds it: so every event that a stream is sent continues what it was sent before.
	seen     Point
	wentBack chan struct{} // closed, and replaced, when the log no longer holds seen
	// tail is the position up to which the tailer has read, and recent the latest events up to there, without a gap. They are
	// valid only while there are live streams.
	tail   int64
	recent []Item
}

// New returns a Feed. Until Run runs it serves pages, and streams that read for themselves.
func New(c Config) *Feed {
	f := &Feed{
		log: c.Log, naming: c.Naming.orDefault(), logger: c.Logger, transient: c.Transient, maxStreams: c.MaxStreams, poll: c.Poll,
		wake: make(chan struct{}, 1), looking: make(chan struct{}, 1), stopping: make(chan struct{}), live: make(map[*Stream]struct{}),
		wentBack: make(chan struct{}),
	}
	f.looking <- struct{}{}
	if f.transient == nil {
		f.transient = func(error) bool { return false }
	}
	if f.maxStreams == 0 {
		f.maxStreams = 128
	}
	if f.poll == 0 {
		f.poll = 100 * time.Millisecond
	}
	return f
}

// Naming returns how the feed names events.
func (f *Feed) Naming() Naming { return f.naming }

// Wake says that the log may have grown. It never blocks.
func (f *Feed) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Stop ends all streams, and any that are opened later. Pages are still served.
func (f *Feed) Stop() { f.stop.Do(func() { close(f.stopping) }) }

// Streams returns how many streams are open.
func (f *Feed) Streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// Page is a piece of the log.
type Page struct {
	Items []Item
	// UpTo is the last position looked at: the next page begins after it.
	UpTo int64
	// Head was the last position of the log; if it is beyond UpTo, there is more to read.
	Head int64
}

// JSON returns the page as a batch in the JSON event format of CloudEvents.
func (p *Page) JSON() []byte {
	size := 2
	for i := range p.Items {
		size += len(p.Items[i].JSON) + 1
	}
	text := append(make([]byte, 0, size), '[')
	for i := range p.Items {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, p.Items[i].JSON...)
	}
	return append(text, ']')
}

// Page returns at most limit events after a position that the filter selects. With a filter by type it searches a bounded number
// of positions, so that it may be empty although there is more. The error is ErrWentBack if the log does not reach the position, and *ArchivedError if
// it begins later.
func (f *Feed) Page(ctx context.Context, after int64, filter Filter, limit int) (Page, error) {
	head, held, err := f.log.Look(ctx, Point{Position: after})
	switch {
	case err != nil:
		return Page{}, err
	case !held:
		return Page{}, ErrWentBack
	}
	return f.page(ctx, after, head.Position, filter, min(max(limit, 1), MaxLimit))
}

// page is Page for a log that is known to reach head.
func (f *Feed) page(ctx context.Context, after, head int64, filter Filter, limit int) (Page, error) {
	page := Page{UpTo: after, Head: head}
	if head <= after {
		return page, nil
	}
	upTo := head
	if filter.Subject == uuid.Nil {
		window := int64(limit)
		if filter.Type != "" {
			window = scanWindow
		}
		upTo = min(head, after+min(window, head-after))
	}
	events, err := f.log.Read(ctx, after, upTo, filter, limit)
	if err != nil {
		return Page{}, err
	}
	if page.Items, err = f.naming.renderAll(events); err != nil {
		return Page{}, err
	}
	page.UpTo = upTo
	switch n := len(events); {
	case n == limit:
		page.UpTo = events[n-1].Position
	case filter == Filter{}: // the log may have ended before upTo by now
		page.UpTo = after + int64(n)
	}
	return page, nil
}

// look returns the position of the last event, after checking that the log still holds everything that streams were sent. If it
// does not, all streams end, and the error is ErrWentBack.
func (f *Feed) look(ctx context.Context) (int64, error) {
	select {
	case <-f.looking:
		defer func() { f.looking <- struct{}{} }()
	case <-f.stopping:
		return 0, ErrStopping
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	f.mu.Lock()
	seen := f.seen
	f.mu.Unlock()
	head, held, err := f.log.Look(ctx, seen)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !held {
		f.logger.Warn("the log has gone back; all streams of events end", "position", seen.Position, "event", seen.ID, "head", head.Position)
		close(f.wentBack)
		f.wentBack, f.seen = make(chan struct{}), Point{}
		clear(f.live)
		return 0, ErrWentBack
	}
	if head.Position > seen.Position { // a replica may be behind another
		f.seen = head
	}
	return head.Position, nil
}

func (n Naming) renderAll(events []Event) ([]Item, error) {
	items := make([]Item, len(events))
	for i := range events {
		var err error
		if items[i], err = n.render(&events[i]); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// Run reads the end of the log for the live streams, until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.poll)
	defer ticker.Stop()
	ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-ticker.C:
		}
		tail, era, some := f.following()
		if !some {
			ticker.Stop()
			continue
		}
		ticker.Reset(f.poll)
		err := f.tailFrom(ctx, tail, era)
		if errors.Is(err, ErrWentBack) || errors.Is(err, ErrStopping) {
			continue // there are no streams left
		}
		if err != nil && ctx.Err() == nil && !f.transient(err) {
			f.logger.Error("the feed cannot read the log; its streams will read it themselves", "error", err)
			f.detachAll() // each stream meets the error itself, and reports it to its reader
		}
	}
}

// following returns the position of the live streams and their era, which is wentBack.
func (f *Feed) following() (tail int64, era <-chan struct{}, some bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tail, f.wentBack, len(f.live) > 0
}

// tailFrom sends the events after a position to the live streams. Nothing else moves the tail while there are any; if the last
// one closes meanwhile and another attaches, the tail begins again at that one.
func (f *Feed) tailFrom(ctx context.Context, tail int64, era <-chan struct{}) error {
	for {
		head, err := f.look(ctx)
		if err != nil || head <= tail {
			return err
		}
		upTo := min(head, tail+batchSize)
		events, err := f.log.Read(ctx, tail, upTo, Filter{}, batchSize)
		if err != nil {
			return err
		}
		if int64(len(events)) != upTo-tail {
			return fmt.Errorf("feed: the log has %d events after position %d up to %d", len(events), tail, upTo)
		}
		items, err := f.naming.renderAll(events)
		if err != nil {
			return err
		}
		if !f.publish(tail, upTo, era, items) {
			return nil
		}
		tail = upTo
	}
}

// publish gives a batch to every live stream. It detaches one that has no room for it. It returns false if the batch does not
// continue what the live streams have, or no stream is left.
func (f *Feed) publish(tail, upTo int64, era <-chan struct{}, items []Item) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tail != tail || f.wentBack != era || len(f.live) == 0 {
		return false
	}
	f.tail = upTo
	f.recent = append(f.recent, items...)
	if n := len(f.recent); n > maxBuffered {
		f.recent = append(make([]Item, 0, maxBuffered+batchSize), f.recent[n-maxBuffered/2:]...)
	}
	for s := range f.live {
		if !s.offer(items, upTo) {
			f.detach(s)
		}
	}
	return len(f.live) > 0
}

// detach removes a stream from the live ones; it drains its buffer and then reads for itself. f.mu is held.
func (f *Feed) detach(s *Stream) {
	delete(f.live, s)
	s.wake()
}

func (f *Feed) detachAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.live {
		f.detach(s)
	}
}

// attach adds a stream to the live ones, if recent has what the stream lacks. The stream skips events that it already has and the
// tailer reads again.
func (f *Feed) attach(s *Stream, head int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.live) == 0 {
		f.tail = min(s.position, head) // a stream may begin at a position that the log does not reach yet
		f.recent = nil
	}
	if s.position < f.tail-int64(len(f.recent)) {
		return false
	}
	s.upTo = s.position
	f.live[s] = struct{}{}
	s.offer(f.recent, f.tail)
	f.Wake()
	return true
}
