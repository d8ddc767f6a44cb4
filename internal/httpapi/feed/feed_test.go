package feed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"passbook/internal/httpapi/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errUnavailable = errors.New("unavailable")
	errBroken      = errors.New("broken")
	subjects       = []uuid.UUID{uuid.MustParse("00000000-0000-4000-8000-000000000001"), uuid.MustParse("00000000-0000-4000-8000-000000000002")}
	types          = []string{"MoneyDeposited", "MoneyWithdrawn", "AccountSuspended"}
)

// log is a log in memory. It makes events from their positions.
type log struct {
	head  atomic.Int64
	reads atomic.Int64
	mu    sync.Mutex
	err   error
	// kept is the position up to which the log has never changed; lost is how often it has lost what came after that.
	kept, lost int64
}

// goBack makes the log lose everything after one position, and then grow with other events to another.
func (l *log) goBack(kept, head int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = kept
	l.lost++
	l.head.Store(head)
}

// id returns the id of the event at a position; l.mu is held.
func (l *log) id(position int64) uuid.UUID {
	if position <= l.kept {
		return uuid.NewSHA1(subjects[0], fmt.Append(nil, position))
	}
	return uuid.NewSHA1(subjects[0], fmt.Append(nil, position, " ", l.lost))
}

func (l *log) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *log) Look(_ context.Context, seen feed.Point) (head feed.Point, held bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	head.Position = l.head.Load()
	head.ID = l.id(head.Position)
	held = seen.Position == 0 || seen.Position <= head.Position && (seen.ID == uuid.Nil || seen.ID == l.id(seen.Position))
	return head, held, l.err
}

func event(position int64) feed.Event {
	return feed.Event{
		Position: position, ID: uuid.New(), Subject: subjects[position%2], Version: (position + 1) / 2, Type: types[position%3],
		SchemaVersion: 1, Data: []byte(`{"amount": 1}`), RecordedAt: time.Unix(position, 0),
	}
}

func (l *log) Read(_ context.Context, after, upTo int64, f feed.Filter, limit int) ([]feed.Event, error) {
	l.reads.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []feed.Event
	for p := after + 1; p <= upTo && len(events) < limit; p++ {
		if e := event(p); (f.Type == "" || f.Type == e.Type) && (f.Subject == uuid.Nil || f.Subject == e.Subject) {
			e.ID = l.id(p)
			events = append(events, e)
		}
	}
	return events, nil
}

// start runs a feed on an empty log until the test ends.
func start(t *testing.T, c feed.Config) (*feed.Feed, *log) {
	t.Helper()
	l := new(log)
	c.Log, c.Logger = l, slog.New(slog.DiscardHandler)
	c.Transient = func(err error) bool { return errors.Is(err, errUnavailable) }
	f := feed.New(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, l
}

// TestEveryStreamSeesEveryEventOnce runs readers with different filters and speeds, which open and close streams while the log
// grows.
func TestEveryStreamSeesEveryEventOnce(t *testing.T) {
	t.Parallel()
	const last = 30_000
	f, l := start(t, feed.Config{Poll: time.Millisecond})
	var group errgroup.Group
	for n := range 12 {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		filter := feed.Filter{}
		if n%3 == 1 {
			filter.Type = types[n%3]
		}
		if n%4 == 1 {
			filter.Subject = subjects[n%2]
		}
		group.Go(func() error { return follow(t.Context(), f, filter, last, random) })
	}
	for l.head.Load() < last {
		l.head.Add(min(int64(1+rand.IntN(40)), last-l.head.Load()))
		f.Wake()
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if n := f.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// follow reads up to a position, and now and then continues with a new stream where the last one ended.
func follow(ctx context.Context, f *feed.Feed, filter feed.Filter, last int64, random *rand.Rand) error {
	at, seen := int64(0), int64(0) // at is where a new stream begins, seen the last position checked
	for at < last {
		s, err := f.Open(ctx, at, filter)
		if err != nil {
			return err
		}
		for until := at + random.Int64N(20_000); at < min(until+1, last); {
			items, err := next(ctx, s)
			if err != nil {
				return err
			}
			for i := range items {
				seen = nextTaken(seen, filter)
				if items[i].Position != seen {
					return fmt.Errorf("with %+v: position %d in place of %d", filter, items[i].Position, seen)
				}
			}
			if random.IntN(20) == 0 {
				for range random.IntN(2000) { // a slow reader
					_ = event(1)
				}
			}
			at = s.Position()
			if random.IntN(30) == 0 && len(items) > 0 {
				at = items[len(items)-1].Position // all that a reader knows
				break
			}
		}
		s.Close()
	}
	if missed := nextTaken(seen, filter); missed <= last {
		return fmt.Errorf("with %+v: position %d is missing", filter, missed)
	}
	return nil
}

// next is Stream.Next with a short wait.
func next(ctx context.Context, s *feed.Stream) ([]feed.Item, error) {
	items, err := s.Next(ctx, time.Millisecond)
	if errors.Is(err, feed.ErrQuiet) {
		return nil, nil
	}
	return items, err
}

func nextTaken(position int64, f feed.Filter) int64 {
	for {
		position++
		if e := event(position); (f.Type == "" || f.Type == e.Type) && (f.Subject == uuid.Nil || f.Subject == e.Subject) {
			return position
		}
	}
}

// TestIdleReaderDelaysNoOther has a reader that reads nothing for a while: it does not delay others, and can continue.
func TestIdleReaderDelaysNoOther(t *testing.T) {
	t.Parallel()
	f, l := start(t, feed.Config{})
	idle, err := f.Open(t.Context(), -1, feed.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	l.head.Store(1)
	f.Wake()
	if items, err := idle.Next(t.Context(), time.Minute); err != nil || len(items) != 1 { // it is live now
		t.Fatalf("%d items, %v", len(items), err)
	}
	busy, err := f.Open(t.Context(), 0, feed.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for busy.Position() < 10_000 {
		if l.head.Load() < 10_000 {
			l.head.Add(100)
			f.Wake()
		}
		if _, err := busy.Next(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	want := int64(2)
	for want <= 10_000 {
		items, err := idle.Next(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for i := range items {
			if items[i].Position != want {
				t.Fatalf("position %d in place of %d", items[i].Position, want)
			}
			want++
		}
	}
}

// TestOneTailerForAll counts reads of the log: live streams share them.
func TestOneTailerForAll(t *testing.T) {
	t.Parallel()
	const readers = 50
	f, l := start(t, feed.Config{Poll: time.Hour})
	var group errgroup.Group
	for range readers {
		group.Go(func() error {
			s, err := f.Open(t.Context(), 0, feed.Filter{})
			if err != nil {
				return err
			}
			defer s.Close()
			for s.Position() < 10 {
				if _, err := s.Next(t.Context(), time.Minute); err != nil {
					return err
				}
			}
			return nil
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for f.Live() < readers {
		<-tick.C
	}
	l.head.Store(10)
	f.Wake()
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if reads := l.reads.Load(); reads != 1 {
		t.Errorf("%d reads of the log for %d readers", reads, readers)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	f, l := start(t, feed.Config{MaxStreams: 2, Poll: time.Millisecond})
	first, err := f.Open(t.Context(), -1, feed.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	l.head.Store(5)
	second, err := f.Open(t.Context(), 5, feed.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := f.Open(t.Context(), 0, feed.Filter{}); !errors.Is(err, feed.ErrTooManyStreams) {
		t.Errorf("a third stream: %v", err)
	}
	l.fail(errUnavailable)
	if _, err := second.Next(t.Context(), 10*time.Millisecond); !errors.Is(err, feed.ErrQuiet) {
		t.Errorf("while the log is unavailable: %v", err)
	}
	l.fail(nil)
	l.head.Store(7)
	if items, err := second.Next(t.Context(), time.Minute); err != nil || len(items) != 2 || items[0].Position != 6 {
		t.Errorf("%v, %v", items, err)
	}
	l.fail(errBroken)
	if _, err := second.Next(t.Context(), time.Minute); !errors.Is(err, errBroken) {
		t.Errorf("a log that is broken: %v", err)
	}
	l.fail(nil)
	first.Close()
	first.Close()
	third, err := f.Open(t.Context(), 0, feed.Filter{})
	if err != nil {
		t.Fatalf("after one was closed: %v", err)
	}
	defer third.Close()
	f.Stop()
	if _, err := third.Next(t.Context(), time.Minute); !errors.Is(err, feed.ErrStopping) {
		t.Errorf("after Stop: %v", err)
	}
	if _, err := f.Open(t.Context(), 0, feed.Filter{}); !errors.Is(err, feed.ErrStopping) {
		t.Errorf("after Stop: %v", err)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	f, l := start(t, feed.Config{})
	l.head.Store(120_000)
	for name, test := range map[string]struct {
		after       int64
		filter      feed.Filter
		limit       int
		items       int
		first, upTo int64
	}{
		"from the beginning":  {limit: 10, items: 10, first: 1, upTo: 10},
		"no limit":            {items: 1, first: 1, upTo: 1},
		"too large a limit":   {limit: 5000, items: feed.MaxLimit, first: 1, upTo: feed.MaxLimit},
		"the end":             {after: 119_995, limit: 10, items: 5, first: 119_996, upTo: 120_000},
		"at the end":          {after: 120_000, limit: 10, upTo: 120_000},
		"of a type":           {limit: 2, filter: feed.Filter{Type: types[0]}, items: 2, first: 3, upTo: 6},
		"of no event":         {limit: 2, filter: feed.Filter{Type: "Nothing"}, upTo: 50_000},
		"of no event, at end": {after: 100_000, limit: 2, filter: feed.Filter{Type: "Nothing"}, upTo: 120_000},
		"of an account":       {limit: 3, filter: feed.Filter{Subject: subjects[0]}, items: 3, first: 2, upTo: 6},
		"of no account":       {limit: 3, filter: feed.Filter{Subject: uuid.New()}, upTo: 120_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, err := f.Page(t.Context(), test.after, test.filter, test.limit)
			if err != nil || len(page.Items) != test.items || page.UpTo != test.upTo || page.Head != 120_000 {
				t.Fatalf("%d items up to %d of %d, %v", len(page.Items), page.UpTo, page.Head, err)
			}
			if test.items > 0 && page.Items[0].Position != test.first {
				t.Errorf("the first is %d", page.Items[0].Position)
			}
			for i := range page.Items {
				if !json.Valid(page.Items[i].JSON) {
					t.Errorf("%s", page.Items[i].JSON)
				}
			}
		})
	}
}

// TestLogGoesBack attacks the feed with logs that lose their latest events: every open stream ends with ErrWentBack, and none is
// sent an event that does not continue what it was sent before, except for the last look.
func TestLogGoesBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ kept, head int64 }{
		"and is shorter":      {60, 60},
		"and has grown again": {60, 100},
		"and is longer":       {60, 400},
		"by one":              {99, 100},
		"to nothing":          {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, l := start(t, feed.Config{Poll: time.Millisecond})
			l.head.Store(100)
			var streams []*feed.Stream
			for _, filter := range []feed.Filter{{}, {Type: types[0]}, {Subject: subjects[1]}, {Type: "Nothing"}} {
				s, err := f.Open(t.Context(), 0, filter)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				streams = append(streams, s)
				for s.Position() < 100 {
					if _, err := next(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
			}
			for f.Live() < len(streams)-1 { // one reads by itself
				for _, s := range streams[1:] {
					if _, err := next(t.Context(), s); err != nil {
						t.Fatal(err)
					}
				}
			}
			l.goBack(tt.kept, tt.head)
			for i, s := range streams {
				var err error
				for err == nil || errors.Is(err, feed.ErrQuiet) {
					_, err = s.Next(t.Context(), time.Minute)
				}
				if !errors.Is(err, feed.ErrWentBack) {
					t.Errorf("stream %d: %v", i, err)
				}
				s.Close()
			}
			s, err := f.Open(t.Context(), tt.kept, feed.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			l.head.Store(tt.head + 10)
			for at := tt.kept; at < tt.head+10; {
				items, err := s.Next(t.Context(), time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range items {
					if at++; it.Position != at {
						t.Fatalf("position %d in place of %d", it.Position, at)
					}
				}
			}
		})
	}
}

// TestBeyondTheEnd reads after a position that the log does not reach.
func TestBeyondTheEnd(t *testing.T) {
	t.Parallel()
	f, l := start(t, feed.Config{})
	l.head.Store(100)
	for _, after := range []int64{101, 1 << 62} {
		if page, err := f.Page(t.Context(), after, feed.Filter{}, 10); !errors.Is(err, feed.ErrWentBack) {
			t.Errorf("a page after %d: %+v, %v", after, page, err)
		}
		s, err := f.Open(t.Context(), after, feed.Filter{Type: types[0]})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Next(t.Context(), time.Minute); !errors.Is(err, feed.ErrWentBack) {
			t.Errorf("a stream after %d: %v", after, err)
		}
		s.Close()
	}
}
