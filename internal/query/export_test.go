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

// LookEvery sets how often the watcher looks without having been told to. It must come before Run.
func (s *Service) LookEvery(d time.Duration) { s.watcher.every = d }

// ReadAccountsSQL is the statement that reads accounts by their ids.
const ReadAccountsSQL = readAccountsSQL

// StatsAt is Stats as of another moment than now.
func (s *Service) StatsAt(ctx context.Context, now time.Time) (Stats, int64, error) {
	return s.statsAt(ctx, &now, Wait{})
}
