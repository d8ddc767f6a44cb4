package projector

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Event is an event as a handler gets it; its content comes beside it, decoded.
type Event struct {
	Position   int64
	StreamID   uuid.UUID
	Version    int64
	EventID    uuid.UUID
	RecordedAt time.Time
}

// Fold gathers in memory what a batch of events does to a read model, and then writes it. The engine makes a new one
// for each batch, hands it the batch's events in position order, and flushes it once.
type Fold interface {
	// Flush writes the fold to the rows of one generation, inside the transaction that moves the checkpoint, with one
	// statement a table. It must be a pure function of the events and the rows: a replay relies on it.
	Flush(ctx context.Context, tx pgx.Tx, generation int64) error
}

// Projection is the definition of a read model: what it is called, which tables it fills, and how.
type Projection struct {
	// ID names it in the API and in the projections table.
	ID string
	// Version is raised when the handlers change, so that every row is rebuilt by the new ones. From 1.
	Version int
	// Tables are the read model's tables. Each has a column generation bigint, first in its primary key.
	Tables []string

	newFold  func() Fold
	handlers map[reflect.Type]func(Fold, Event, any) error
}

// Define makes a Projection whose batches are gathered by folds that newFold makes. Handlers are added with On.
func Define(id string, version int, tables []string, newFold func() Fold) *Projection {
	return &Projection{
		ID: id, Version: version, Tables: tables, newFold: newFold,
		handlers: make(map[reflect.Type]func(Fold, Event, any) error),
	}
}

// On registers the handler for events of type E, as decoded by Config.Decode. A type without a handler only advances
// the checkpoint. The handler may change nothing but the fold; an error of it halts the projection at the event.
// F must be the type that the projection's newFold makes.
func On[E any, F Fold](p *Projection, handle func(fold F, at Event, e E) error) {
	p.handlers[reflect.TypeFor[E]()] = func(fold Fold, at Event, e any) error {
		return handle(fold.(F), at, e.(E))
	}
}

// apply hands an event to its handler, if there is one.
func (p *Projection) apply(fold Fold, at Event, data any) error {
	handle, ok := p.handlers[reflect.TypeOf(data)]
	if !ok {
		return nil
	}
	if err := guard(func() error { return handle(fold, at, data) }); err != nil {
		return fmt.Errorf("%s: %w", p.ID, err)
	}
	return nil
}

// guard turns a panic of a read model's code into an error, so that it halts one projection and not the service.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
