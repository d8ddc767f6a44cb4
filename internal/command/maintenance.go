package command

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"passbook/internal/account/eventjson"
	"passbook/internal/eventstore"
)

const (
	// snapshotEvery is how many events a snapshot may be behind: what a cache miss reads at most, or thereabouts.
	snapshotEvery = 100
	// maxUnsaved bounds the accounts that wait to be saved. One that finds no place is saved another time.
	maxUnsaved = 10_000
	saveEvery  = time.Second
	// expireEvery is how often idempotency keys that are past their time are looked for.
	expireEvery = time.Minute
)

// maintenance saves snapshots and deletes old idempotency keys. No command waits for it, and what fails is done another time.
type maintenance struct {
	store    *eventstore.Store
	log      *slog.Logger
	keepKeys time.Duration

	mu      sync.Mutex
	unsaved map[uuid.UUID]held
}

// save has a snapshot of an account made soon. It returns false when too many wait already.
func (m *maintenance) save(id uuid.UUID, h held) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, waits := m.unsaved[id]; !waits && len(m.unsaved) >= maxUnsaved {
		return false
	}
	m.unsaved[id] = h
	return true
}

// run works until ctx ends, and then saves what is unsaved.
func (m *maintenance) run(ctx context.Context) {
	save, expire := time.NewTicker(saveEvery), time.NewTicker(expireEvery)
	defer save.Stop()
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			m.saveAll(ctx)
			return
		case <-save.C:
			m.saveAll(ctx)
		case <-expire.C:
			m.expire(ctx)
		}
	}
}

// saveAll saves what is unsaved, also when it is time to stop.
func (m *maintenance) saveAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveEvery)
	defer cancel()
	m.mu.Lock()
	unsaved := m.unsaved
	m.unsaved = make(map[uuid.UUID]held)
	m.mu.Unlock()
	if len(unsaved) == 0 {
		return
	}
	snapshots := make([]eventstore.Snapshot, 0, len(unsaved))
	for id, h := range unsaved {
		state, err := eventjson.MarshalState(h.state)
		if err != nil {
			m.log.WarnContext(ctx, "a snapshot cannot be encoded", "account", id, "error", err)
			continue
		}
		snapshots = append(snapshots, eventstore.Snapshot{StreamID: id, Version: h.version, Position: h.position, EventID: h.last, State: state})
	}
	// In one order at all instances, or two of them could wait for each other.
	slices.SortFunc(snapshots, func(a, b eventstore.Snapshot) int { return bytes.Compare(a.StreamID[:], b.StreamID[:]) })
	if err := m.store.SaveSnapshots(ctx, snapshots); err != nil {
		m.log.WarnContext(ctx, "saving snapshots failed", "error", err)
	}
}

func (m *maintenance) expire(ctx context.Context) {
	deleted, err := m.store.ExpireKeys(ctx, m.keepKeys)
	if err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "expiring idempotency keys failed", "error", err)
	}
	if deleted > 0 {
		m.log.DebugContext(ctx, "idempotency keys expired", "keys", deleted)
	}
}
