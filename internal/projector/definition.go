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

// Event is what a handler gets of an event beside its decoded content.
type Event struct {
	Position   int64
	StreamID   uuid.UUID
	Version    int64
	EventID    uuid.UUID
	RecordedAt time.Time
}

// Fold gathers in memory what a batch of events changes in a read model, and then writes it. The engine makes a new one for each
// batch, passes it the batch's events, and flushes it once. Events come in the order of their positions, except those of a stream
// that was parked, which come later: a fold may rely only on the order within a stream.
type Fold interface {
	// Flush writes the fold to the rows of one generation, inside the transaction that moves the checkpoint, with few
	// statements for each table. It must be a pure function of the events and the rows: a replay relies on it.
	Flush(ctx context.Context, tx pgx.Tx, generation int64) error
}

// Sized is a Fold that grows with the events it has folded. A replay flushes it before it holds many more than maxRows rows, even if
// the batch could have more events. A Fold that is not Sized is assumed to stay small.
type Sized interface {
	Fold
	// Rows returns how many rows Flush would write now.
	Rows() int
}

// Continuer is a Fold that can continue from the one committed just before it: it need not read again the rows that this one wrote.
type Continuer interface {
	Fold
	// Continue passes the previous Fold, which nothing else uses any more. The engine calls it only if the log, the checkpoint and
	// the epoch show that no other batch has written rows since. A parked stream may still have been drained in between; a Fold
	// recognizes that by the versions of the stream's events.
	Continue(previous Fold)
}

// Projection is the definition of a read model: its name, where it is stored, and its handlers.
type Projection struct {
	// ID names it in the API and in the projections table.
	ID string
	// Version counts from 1. Raise it when the handlers change, so that the new ones rebuild every row.
	Version int
	// Tables are the read model's tables. Each has a column generation bigint, first in its primary key.
	Tables []string

	// BatchDelay, when set, replaces Config.BatchDelay. It can be longer for a read model that no request waits for.
	BatchDelay time.Duration

	// PerInstance is set if each instance has a Store of its own, such as its memory, and applies the log to it.
	PerInstance bool

	newFold  func() any // makes a Fold, or what the store takes
	store    Store      // nil if the read model is in tables
	handlers map[reflect.Type]func(fold any, at Event, e any) error
}

// Define makes a Projection in tables. newFold makes the Fold of a batch. Handlers are added with On.
//
// Like every function that defines a projection, it panics on arguments that cannot work, since they are mistakes in the program.
func Define(id string, version int, tables []string, newFold func() Fold) *Projection {
	p := define(id, version)
	if newFold == nil || newFold() == nil {
		p.refuse("it takes a function that makes a fold")
	}
	p.Tables, p.newFold = tables, func() any { return newFold() }
	return p
}

// ids matches ids that need no escaping in a URL or a metric's label.
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

// DefineIn makes a Projection whose read model is in a Store. newFold makes the fold of a batch: handlers, added with On, change it,
// and the Store applies it. An event that a handler cannot apply halts the projection: no stream is parked. There is no previous
// generation to roll back to.
func DefineIn(store Store, id string, version int, newFold func() any) *Projection {
	p := define(id, version)
	if store == nil || newFold == nil || newFold() == nil {
		p.refuse("it takes a store, and a function that makes a fold")
	}
	p.store, p.newFold = store, newFold
	return p
}

// Content is the decoded payload of an event. EventType returns the event's type in the log.
type Content interface{ EventType() string }

// On registers the handler for events of type E, as decoded by Config.Decode. A type without a handler only advances
// the checkpoint. The handler may change only the fold, which is discarded if the handler fails: an error that persists parks the
// event's stream, or halts a projection whose read model is in a Store. F is the type that the projection's newFold makes.
//
// On panics if the handler could never be called, because no event that Decode returns has type E, or could never work, because the
// projection's newFold makes another type than F.
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

// apply passes an event to its handler, if there is one.
func (p *Projection) apply(fold any, at Event, data any) error {
	if handle, ok := p.handlers[reflect.TypeOf(data)]; ok {
		return handle(fold, at, data)
	}
	return nil
}

// catchPanic turns a panic of a read model's code into an error that says where it was, so that it stops one stream or projection
// and not the service.
func catchPanic(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v, at %s", p, panicLine())
		}
	}()
	return f()
}

// panicLine returns the line that panicked: the first frame below the runtime's. A deferred function calls it.
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
