package command

import (
	"context"
	"time"
)

// expireEvery is how often expired idempotency keys are deleted.
const expireEvery = time.Minute

// maintain deletes expired idempotency keys until ctx ends.
func (s *Service) maintain(ctx context.Context) {
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-expire.C:
		}
		deleted, err := s.store.ExpireKeys(ctx, s.keepKeys)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "deleting expired idempotency keys failed; retrying in a minute", "error", err)
		}
		if deleted > 0 {
			s.log.DebugContext(ctx, "deleted expired idempotency keys", "keys", deleted)
		}
	}
}
