package projector

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
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
// for each batch, hands it the batch's events, and flushes it once. Events come in the order of their positions, but for
// those of a stream that was parked, which come late: a fold may rely on the order within a stream alone.
type Fold interface {
	// Flush writes the fold to the rows of one generation, inside the transaction that moves the checkpoint, with few
	// statements a table. It must be a pure function of the events and the rows: a replay relies on it.
	Flush(ctx context.Context, tx pgx.Tx, generation int64) error
}

// Sized is a Fold that grows with what it has taken in. A replay writes it before it takes in much more than maxRows,
// however many events a batch may have; any other is taken to stay small.
type Sized interface {
	Fold
	// Rows is how many rows it would write by now.
	Rows() int
}

// Continuer is a Fold that can go on from the one that was committed just before it, for the same rows: what that one left in
// them need not be read again.
type Continuer interface {
	Fold
	// Continue hands over the Fold before, which is not used elsewhere any more. The engine does so when nothing but it has written
	// the rows since they were read, as far as the log, the checkpoint and the epoch can tell; parked streams, which are
	// tried in between, are to be told by their versions.
	Continue(previous Fold)
}

// Projection is the definition of a read model: what it is called, where it is kept, and how.
type Projection struct {
	// ID names it in the API and in the projections table.
	ID string
	// Version is raised when the handlers change, so that every row is rebuilt by the new ones. From 1.
	Version int
	// Tables are the read model's tables. Each has a column generation bigint, first in its primary key.
	Tables []string

	// BatchDelay, when set, is used in place of Config.BatchDelay: longer for a read model that no request waits for.
	BatchDelay time.Duration

	// PerInstance says that each instance has a Store of its own, such as its memory, and so applies the log to it.
	PerInstance bool

	newFold  func() any // makes a Fold, or what the store takes
	store    Store      // nil of one in tables
	handlers map[reflect.Type]func(fold any, at Event, e any) error
}

// Define makes a Projection whose batches are gathered by folds that newFold makes. Handlers are added with On.
//
// Like all that defines a projection it panics when what it is given cannot work, since that is a mistake in the program.
func Define(id string, version int, tables []string, newFold func() Fold) *Projection {
	p := define(id, version)
	if newFold == nil || newFold() == nil {
		p.refuse("it takes a function that makes a fold")
	}
	p.Tables, p.newFold = tables, func() any { return newFold() }
	return p
}

// ids are what may be in a URL, and in a label of a metric, as it is.
var ids = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func define(id string, version int) *Projection {
	p := &Projection{ID: id, Version: version, handlers: make(map[reflect.Type]func(any, Event, any) error)}
	if !ids.MatchString(id) {
		p.refuse("an id has lower-case letters, digits and _")
	}
	if version < 1 {
		p.refuse("versions count from 1")
	}
	return p
}

func (p *Projection) refuse(format string, args ...any) {
	panic(fmt.Sprintf("projector: projection %q: %s", p.ID, fmt.Sprintf(format, args...)))
}

// DefineIn makes a Projection whose read model a Store keeps. newFold makes what gathers a batch, which handlers, added with
// On, take, and which the Store knows how to apply. An event that a handler cannot apply halts the projection: no stream is
// parked. There is no previous generation to roll back to.
func DefineIn(store Store, id string, version int, newFold func() any) *Projection {
	p := define(id, version)
	if store == nil || newFold == nil || newFold() == nil {
		p.refuse("it takes a store, and a function that makes a fold")
	}
	p.store, p.newFold = store, newFold
	return p
}

// Content is what an event says, decoded. Its EventType is the event's name in the log.
type Content interface{ EventType() string }

// On registers the handler for events of type E, as decoded by Config.Decode. A type without a handler only advances
// the checkpoint. The handler may change nothing but the fold, which is dropped when it fails: an error parks the
// event's stream, or halts a projection whose read model is in a Store. F is the type that the projection's newFold makes.
//
// On panics when the handler could never be called, since events are values of the types that Decode returns, or could
// never work, since it takes another fold than the projection makes.
func On[E Content, F any](p *Projection, handle func(fold F, at Event, e E) error) {
	event := reflect.TypeFor[E]()
	fold := p.newFold()
	switch _, fits := fold.(F); {
	case event.Kind() == reflect.Pointer:
		p.refuse("no event is a %v: events are values, such as %v", event, event.Elem())
	case event.Kind() == reflect.Interface:
		p.refuse("no event is an %v: each type of event takes a handler of its own", event)
	case handle == nil:
		p.refuse("the handler of %v is nil", event)
	case p.handlers[event] != nil:
		p.refuse("%v has two handlers", event)
	case !fits:
		p.refuse("the handler of %v takes a %v, and is given a %T", event, reflect.TypeFor[F](), fold)
	}
	p.handlers[event] = func(fold any, at Event, e any) error {
		return handle(fold.(F), at, e.(E))
	}
}

// apply hands an event to its handler, if there is one.
func (p *Projection) apply(fold any, at Event, data any) error {
	if handle, ok := p.handlers[reflect.TypeOf(data)]; ok {
		return handle(fold, at, data)
	}
	return nil
}

// catchPanic turns a panic of a read model's code into an error that says where it was, so that it halts one projection and
// not the service.
func catchPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v, at %s", p, panicLine())
		}
	}()
	return f()
}

// panicLine is the line that has panicked, for a deferred function to ask: the first one below the runtime's.
func panicLine() string {
	var pcs [32]uintptr
	frames, below := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])]), false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if below && !inRuntime || !more {
			return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
		}
		below = below || inRuntime
	}
}
