package projector_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"passbook/internal/account"
	"passbook/internal/projector"
)

// continuation is a fold that knows which one it follows.
type continuation struct {
	book     *continuations
	follows  *continuation
	accounts int
}

// continuations is the folds in the order in which they were flushed.
type continuations struct {
	mu      sync.Mutex
	fails   bool
	flushed []*continuation
	failed  int // flushes that did, each of them before the fold of that index
}

func (s *continuation) Continue(previous projector.Fold) { s.follows = previous.(*continuation) }

func (s *continuation) Flush(context.Context, pgx.Tx, int64) error {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	if s.book.fails {
		s.book.fails = false
		s.book.failed = len(s.book.flushed)
		return &pgconn.PgError{Code: "57P01"} // the connection is to end
	}
	s.book.flushed = append(s.book.flushed, s)
	return nil
}

// TestContinuations sees a fold go on from the one that was committed just before it, and from none when a batch has failed in
// between: what that one had in mind may not be what the rows say.
func TestContinuations(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	book := new(continuations)
	p := projector.Define("continuations", 1, nil, func() projector.Fold { return &continuation{book: book} })
	projector.On(p, func(s *continuation, _ projector.Event, _ account.AccountCreated) error { s.accounts++; return nil })
	e := newEngine(t, f.config("one"), p)
	start(t, e)
	w := newWriter(f.log, 150, 60)
	step := func() {
		w.append(t, 3)
		head, err := f.log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is applied", func() bool {
			st, err := e.Projection(t.Context(), "continuations")
			return err == nil && st.Position == head
		})
	}
	for range 8 {
		step()
	}
	book.mu.Lock()
	book.fails = true
	book.mu.Unlock()
	for range 8 {
		step()
	}
	book.mu.Lock()
	defer book.mu.Unlock()
	followed, accounts := 0, 0
	for i, s := range book.flushed {
		accounts += s.accounts
		switch {
		case s.follows == nil: // at first, after a failure, and when the lease was renewed in between
		case i == book.failed:
			t.Errorf("fold %d goes on from another although a batch failed before it", i)
		case s.follows != book.flushed[i-1]:
			t.Errorf("fold %d goes on from another than the one before it", i)
		default:
			followed++
		}
	}
	if followed == 0 || book.failed == 0 || accounts != 48 {
		t.Errorf("%d of %d folds go on from the one before; %d accounts; the flush that failed was number %d",
			followed, len(book.flushed), accounts, book.failed)
	}
}
