package query

import (
	"context"
	"sync/atomic"
	"time"
)

// headSQL asks for the log's last position, and whether this is a database that others write to.
const headSQL = `select coalesce((select position from events order by position desc limit 1), 0), pg_is_in_recovery()`

// progress is a projection as this instance has shown it.
type progress struct {
	id    string
	shown atomic.Int64 // the highest position of an answer
}

// show takes note of an answer at a position.
func (p *progress) show(position int64) {
	for {
		shown := p.shown.Load()
		if position <= shown || p.shown.CompareAndSwap(shown, position) {
			return
		}
	}
}

// answer calls read, which returns the position that it found applied, until that is as high as the caller wants, and no
// lower than what this instance had shown before the call: a database that has crashed may have lost the last commits of a
// projection, which do not wait for the disk, and of several replicas one is behind the other. The projection catches up, so
// it is waited for, as long as w says; then the error is ErrBehind. Only when the log itself has gone back is what was shown
// before not to be had again. An error of read is returned as it is.
func (s *Service) answer(ctx context.Context, p *progress, w Wait, read func() (int64, error)) (int64, error) {
	shown := p.shown.Load()
	var deadline time.Time // set by the first wait
	await := func(position int64) error {
		if deadline.IsZero() {
			deadline = time.Now().Add(w.Timeout)
		}
		return s.watcher.wait(ctx, p.id, position, time.Until(deadline))
	}
	if w.MinPosition > shown && w.Timeout > 0 {
		if err := await(w.MinPosition); err != nil && ctx.Err() != nil {
			return 0, err
		}
	}
	for tries := 0; ; tries++ {
		if tries > 1 { // by the watcher it is there: the pool is spread over replicas
			select {
			case <-time.After(lookEvery):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		applied, err := read()
		if err != nil {
			return applied, err
		}
		want := max(w.MinPosition, shown)
		if applied >= want {
			p.show(applied)
			return applied, nil
		}
		s.watcher.saw(p.id, applied)
		switch {
		case applied < shown && s.wentBack(ctx, shown):
			p.shown.CompareAndSwap(shown, applied)
			shown = 0
		case w.Timeout <= 0, !deadline.IsZero() && !time.Now().Before(deadline):
			return applied, ErrBehind
		default:
			if err := await(want); err != nil && ctx.Err() != nil {
				return applied, err
			}
		}
	}
}

// wentBack tells whether the log does not reach a position that was shown, by the database that is written to. One that
// cannot be asked is no reason to show less.
func (s *Service) wentBack(ctx context.Context, shown int64) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var (
		head     int64
		recovery bool
	)
	err := s.primary.QueryRow(ctx, headSQL).Scan(&head, &recovery)
	return err == nil && !recovery && head < shown
}
