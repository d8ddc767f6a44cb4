package query

import (
	"context"
	"sync/atomic"
	"time"
)

// headSQL returns the head of the log, and whether this is a standby.
const headSQL = `select coalesce((select position from events order by position desc limit 1), 0), pg_is_in_recovery()`

// progress is the highest position at which this instance has returned a result of a projection.
type progress struct {
	id       string
	returned atomic.Int64
}

// advance records that a result was returned at a position.
func (p *progress) advance(position int64) {
	for {
		returned := p.returned.Load()
		if position <= returned || p.returned.CompareAndSwap(returned, position) {
			return
		}
	}
}

// monotonic calls read, which returns the position that it found applied, until that is at least what the caller wants and
// what this instance had returned before the call. A projection may be lower: its commits do not wait for the disk, so
// that a database that crashed may have lost the last ones, and one replica may be behind another. It catches up, and
// monotonic waits for that as long as w allows, then returns ErrBehind. Only when the log itself has gone back does it return a
// lower position than before. It returns errors of read unchanged.
func (s *Service) monotonic(ctx context.Context, p *progress, w Wait, read func() (int64, error)) (int64, error) {
	returned := p.returned.Load()
	var deadline time.Time // set by the first wait
	await := func(position int64) error {
		if deadline.IsZero() {
			deadline = time.Now().Add(w.Timeout)
		}
		return s.watcher.wait(ctx, p.id, position, time.Until(deadline))
	}
	if w.MinPosition > returned && w.Timeout > 0 {
		if err := await(w.MinPosition); err != nil && ctx.Err() != nil {
			return 0, err
		}
	}
	for attempt := 0; ; attempt++ {
		if attempt > 1 { // the watcher has seen the position on another replica of the pool
			select {
			case <-time.After(pollInterval):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		applied, err := read()
		if err != nil {
			return applied, err
		}
		want := max(w.MinPosition, returned)
		if applied >= want {
			p.advance(applied)
			return applied, nil
		}
		s.watcher.lower(p.id, applied)
		switch {
		case applied < returned && s.logWentBack(ctx, returned):
			p.returned.CompareAndSwap(returned, applied)
			returned = 0
		case w.Timeout <= 0, !deadline.IsZero() && !time.Now().Before(deadline):
			return applied, ErrBehind
		default:
			if err := await(want); err != nil && ctx.Err() != nil {
				return applied, err
			}
		}
	}
}

// logWentBack reports whether the primary's log ends before a position. It is false when the primary cannot be asked.
func (s *Service) logWentBack(ctx context.Context, position int64) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var (
		head     int64
		recovery bool
	)
	err := s.primary.QueryRow(ctx, headSQL).Scan(&head, &recovery)
	return err == nil && !recovery && head < position
}
