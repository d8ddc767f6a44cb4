package command

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account"
	"passbook/internal/eventstore"
)

const (
	// snapshotEvery is how many events a snapshot may be behind: what a cache miss reads at most, or thereabouts.
	snapshotEvery = 100
	// maxUnsaved bounds the aggregates that wait to be saved. One that finds no place is saved another time.
	maxUnsaved = 10_000
	saveEvery  = time.Second
	// expireEvery is how often idempotency keys that are past their time are looked for.
	expireEvery = time.Minute
)

// upkeep is what goes on beside the commands: snapshots are saved and old idempotency keys deleted. Neither is ever
// waited for, and neither matters when it fails: it is done another time.
type upkeep struct {
	store   *eventstore.Store
	log     *slog.Logger
	keepKey time.Duration

	mu      sync.Mutex
	unsaved map[uuid.UUID]aggregate
}

// add has an aggregate saved soon. It answers false when too many wait already.
func (u *upkeep) add(id uuid.UUID, a aggregate) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, waits := u.unsaved[id]; !waits && len(u.unsaved) >= maxUnsaved {
		return false
	}
	u.unsaved[id] = a
	return true
}

// run works until ctx ends, and then saves what is unsaved.
func (u *upkeep) run(ctx context.Context) {
	save, expire := time.NewTicker(saveEvery), time.NewTicker(expireEvery)
	defer save.Stop()
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveEvery)
			defer cancel()
			u.save(last)
			return
		case <-save.C:
			u.save(ctx)
		case <-expire.C:
			u.expire(ctx)
		}
	}
}

func (u *upkeep) save(ctx context.Context) {
	u.mu.Lock()
	unsaved := u.unsaved
	u.unsaved = make(map[uuid.UUID]aggregate)
	u.mu.Unlock()
	if len(unsaved) == 0 {
		return
	}
	snapshots := make([]eventstore.Snapshot, 0, len(unsaved))
	for id, a := range unsaved {
		state, err := account.MarshalState(a.state)
		if err != nil {
			u.log.WarnContext(ctx, "a snapshot cannot be encoded", "account", id, "error", err)
			continue
		}
		snapshots = append(snapshots, eventstore.Snapshot{StreamID: id, Version: a.version, EventID: a.last, State: state})
	}
	if err := u.store.SaveSnapshots(ctx, snapshots); err != nil {
		u.log.WarnContext(ctx, "saving snapshots failed", "error", err)
	}
}

func (u *upkeep) expire(ctx context.Context) {
	deleted, err := u.store.ExpireKeys(ctx, u.keepKey)
	if err != nil && ctx.Err() == nil {
		u.log.WarnContext(ctx, "expiring idempotency keys failed", "error", err)
	}
	if deleted > 0 {
		u.log.DebugContext(ctx, "idempotency keys expired", "keys", deleted)
	}
}
