package query

import (
	"context"
	"time"
)

// Waiting is how many calls wait for a position.
func (s *Service) Waiting() int {
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	return s.watcher.waiters
}

// PollEvery sets how often the watcher reads positions unasked. It must be called before Run.
func (s *Service) PollEvery(d time.Duration) { s.watcher.every = d }

// ReadAccountsSQL is the statement that reads accounts by their ids.
const ReadAccountsSQL = readAccountsSQL

// StatsAt is Stats as of another moment than now.
func (s *Service) StatsAt(ctx context.Context, now time.Time) (Stats, int64, error) {
	return s.statsAt(ctx, &now, Wait{})
}
