package projector

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"passbook/internal/eventstore"
)

// batch is a run of contiguous events, folded.
type batch struct {
	cfg *Config
	def *Projection

	fold    any
	last    Checkpoint
	count   int64
	waiting map[uuid.UUID]int64 // how many of the events wait for each parked stream; they are not in the fold
	applied int64               // how many of the events are in the fold
	dirty   bool                // an event that could not be applied may have changed the fold
}

func (b *batch) flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	if b.applied == 0 || b.def.store != nil {
		return nil
	}
	return catchPanic(func() error { return b.fold.(Fold).Flush(ctx, tx, generation) })
}

// maxRows limits the memory of an extended batch. It is checked after each read, so a batch can exceed it by one read.
const maxRows = 10_000

// full reports whether the batch has reached maxRows.
func (b *batch) full() bool {
	sized, ok := b.fold.(Sized)
	return ok && sized.Rows() >= maxRows
}

// foldEvents decodes and folds events. An error is an *EventError; the batch then holds the events before that one.
func foldEvents(cfg *Config, def *Projection, events []eventstore.Event, parked map[uuid.UUID]bool) (*batch, error) {
	b := &batch{cfg: cfg, def: def, fold: def.newFold()}
	err := b.add(events, parked)
	if err != nil && b.dirty {
		b, _ = foldEvents(cfg, def, events[:b.count], parked) // these have succeeded once
	}
	return b, err
}

// add decodes events and folds them into the batch. It only counts the events of parked streams.
func (b *batch) add(events []eventstore.Event, parked map[uuid.UUID]bool) error {
	i := 0
	var failed *EventError
	err := catchPanic(func() error { // once for all events: once for each took a tenth of a replay's CPU
		for ; i < len(events) && failed == nil; i++ {
			failed = b.addEvent(&events[i], parked)
		}
		return nil
	})
	if err != nil {
		failed = b.cannotApply(&events[i], err)
	}
	if failed != nil {
		return failed
	}
	return nil
}

func (b *batch) addEvent(e *eventstore.Event, parked map[uuid.UUID]bool) *EventError {
	data, err := b.cfg.decoded(e)
	if err != nil {
		return &EventError{Position: e.Position, Err: err}
	}
	if parked[e.StreamID] {
		if b.waiting == nil {
			b.waiting = make(map[uuid.UUID]int64)
		}
		b.waiting[e.StreamID]++
	} else {
		if err := b.def.apply(b.fold, eventOf(e), data); err != nil {
			return b.cannotApply(e, err)
		}
		b.applied++
	}
	b.last = Checkpoint{e.Position, e.EventID}
	b.count++
	return nil
}

func (b *batch) cannotApply(e *eventstore.Event, err error) *EventError {
	b.dirty = true
	return &EventError{Position: e.Position, Err: fmt.Errorf("%s: %w", b.def.ID, err), event: e}
}

func eventOf(e *eventstore.Event) Event {
	return Event{Position: e.Position, StreamID: e.StreamID, Version: e.Version, EventID: e.EventID, RecordedAt: e.RecordedAt}
}
