package projector

import (
	"context"
	"reflect"

	"github.com/jackc/pgx/v5"
)

// Flushing is called in place of a fold's Flush, which it may call, in the transaction of the checkpoint.
type Flushing func(ctx context.Context, tx pgx.Tx, generation int64, flush func() error) error

// WithFlush copies a projection, putting around in front of each Flush.
func (p *Projection) WithFlush(around Flushing) *Projection {
	q := *p
	q.newFold = func() any { return &flushed{Fold: p.newFold().(Fold), around: around} }
	q.handlers = make(map[reflect.Type]func(any, Event, any) error)
	for t, handle := range p.handlers {
		q.handlers[t] = func(f any, at Event, e any) error { return handle(f.(*flushed).Fold, at, e) }
	}
	return &q
}

type flushed struct {
	Fold
	around Flushing
}

func (f *flushed) Flush(ctx context.Context, tx pgx.Tx, generation int64) error {
	return f.around(ctx, tx, generation, func() error { return f.Fold.Flush(ctx, tx, generation) })
}

// DeleteOld removes the rows of a projection's generations that are over, as its owner does when its replay begins.
func (e *Engine) DeleteOld(ctx context.Context, id string, epoch int64) error {
	s := e.workers[id].state
	r, _, err := s.nextReplay(ctx)
	if err != nil {
		return err
	}
	return s.deleteOld(ctx, replayRow{s, epoch, r})
}

// WithFault copies a projection whose handlers fail when fault does, after they have done their work on the fold.
func (p *Projection) WithFault(fault func(at Event) error) *Projection {
	q := *p
	q.handlers = make(map[reflect.Type]func(any, Event, any) error)
	for t, handle := range p.handlers {
		q.handlers[t] = func(f any, at Event, e any) error {
			if err := handle(f, at, e); err != nil {
				return err
			}
			return fault(at)
		}
	}
	return &q
}

// FoldOf makes an empty fold of a projection's.
func FoldOf(p *Projection) Fold { return p.newFold().(Fold) }
