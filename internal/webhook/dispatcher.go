package webhook

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// running is a subscription that this instance delivers.
type running struct {
	epoch  int64
	cancel context.CancelFunc
	done   chan struct{} // closed when its worker has ended
}

// Run delivers the subscriptions that no other instance delivers, until ctx ends. Then it waits for the attempts in progress, releases
// its leases and returns nil. While the database is unavailable it retries. Without subscriptions it costs one statement on an empty
// table each third of a lease.
func (s *Service) Run(ctx context.Context) error {
	defer s.sender.client.CloseIdleConnections()
	all := make(map[uuid.UUID]*running)
	ticker := time.NewTicker(s.cfg.Lease / 3)
	defer ticker.Stop()
	for {
		if err := s.reconcile(ctx, all); err != nil && ctx.Err() == nil {
			s.cfg.Logger.WarnContext(ctx, "reading the webhooks failed; retrying", "error", err)
		}
		select {
		case <-ctx.Done():
			for _, one := range all {
				one.cancel()
			}
			for _, one := range all {
				<-one.done
			}
			return nil
		case <-ticker.C:
		case <-s.wake:
		}
	}
}

// reconcile ends the workers whose lease is lost, and starts one for each subscription whose lease is free. It does not take one whose
// former worker on this instance has not ended yet, so that an instance never has two workers for a subscription.
func (s *Service) reconcile(ctx context.Context, all map[uuid.UUID]*running) error {
	if !s.cfg.Ready() {
		return nil
	}
	if err := s.renew(ctx, all); err != nil {
		return err
	}
	except := make([]uuid.UUID, 0, len(all))
	for id := range all {
		except = append(except, id)
	}
	taken, err := s.store.take(ctx, s.cfg.Instance, s.cfg.Lease, except)
	if err != nil {
		return err
	}
	for _, h := range taken {
		working, cancel := context.WithCancel(ctx)
		one := &running{epoch: h.epoch, cancel: cancel, done: make(chan struct{})}
		all[h.id] = one
		w := &worker{Service: s, hook: h, at: h.cursor}
		go func() {
			defer s.look()
			defer close(one.done)
			defer cancel()
			w.run(working)
		}()
	}
	return nil
}

// renew renews the leases, cancels the workers that have lost theirs, and forgets those that have ended.
func (s *Service) renew(ctx context.Context, all map[uuid.UUID]*running) error {
	var (
		ids    []uuid.UUID
		epochs []int64
	)
	for id, one := range all {
		select {
		case <-one.done:
			delete(all, id)
		default:
			ids, epochs = append(ids, id), append(epochs, one.epoch)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	held, err := s.store.renew(ctx, ids, epochs, s.cfg.Lease)
	if err != nil {
		return err
	}
	for id, one := range all {
		if !slices.Contains(held, id) {
			one.cancel()
		}
	}
	return nil
}
