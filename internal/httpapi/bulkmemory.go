package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"passbook/internal/httpapi/genapi"
	"passbook/internal/httpapi/request"
)

// BulkLimits bounds all requests to POST /commands together. A zero field takes its default.
type BulkLimits struct {
	// Memory is how many bytes the requests in progress may hold, 128 MiB by default.
	Memory int64
	// Wait is how long a request waits for memory before it is refused, until its first command has been read; 2 seconds by
	// default.
	Wait time.Duration
	// PieceTimeout is how long a client may take to send or to receive the next piece; one command may take ten times as long to
	// arrive. 30 seconds by default.
	PieceTimeout time.Duration
}

func (l BulkLimits) orDefault() BulkLimits {
	l.Memory = cmp.Or(l.Memory, 128<<20)
	l.Wait = cmp.Or(l.Wait, 2*time.Second)
	l.PieceTimeout = cmp.Or(l.PieceTimeout, 30*time.Second)
	return l
}

// Memory that the parts of a bulk request take, in bytes.
const (
	// bulkBase is for the buffers and goroutines that each request has.
	bulkBase = request.BufferSize + resultPiece + 64<<10
	// resultPiece is how much of a response is rendered before it is sent.
	resultPiece = 64 << 10
	// commandCost is for a command with its result, problemCost for a problem without the errors it names.
	commandCost, problemCost = 2 << 10, 512
	// readingCost is for each byte of a command while it is read; its text is not kept.
	readingCost = 32
)

// maxNamed bounds the field errors in all problems of one chunk, or of one atomic request.
const maxNamed = 1024

// reservation is one bulk request's share of the memory for all of them. A request waits without a time limit only while all the
// commands it has read are being processed, so that requests cannot deadlock.
type reservation struct {
	memory *semaphore.Weighted
	held   atomic.Int64
}

// try takes n bytes if they are free and no request waits for memory.
func (r *reservation) try(n int64) bool {
	if !r.memory.TryAcquire(n) {
		return false
	}
	r.held.Add(n)
	return true
}

// wait takes n bytes once they are free. Its error is that of ctx.
func (r *reservation) wait(ctx context.Context, n int64) error {
	if err := r.memory.Acquire(ctx, n); err != nil {
		return err
	}
	r.held.Add(n)
	return nil
}

// waitFor is wait with a time limit, after which it returns a problem.
func (r *reservation) waitFor(ctx context.Context, limit time.Duration, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.wait(ctx, n); err != nil {
		p := newProblem(kindOverloaded, "The requests to POST /commands in progress use all the memory reserved for them. "+
			"Nothing was done; retry shortly, or send fewer commands at once.")
		p.retryAfter = 1
		return p
	}
	return nil
}

func (r *reservation) giveBack(n int64) {
	r.held.Add(-n)
	r.memory.Release(n)
}

// end gives back all that is held.
func (r *reservation) end() { r.memory.Release(r.held.Swap(0)) }

// costOf returns how many bytes a command takes once it has been read.
func costOf(it *item) int64 {
	e, bad := errors.AsType[*request.Error](it.problem)
	if !bad {
		return commandCost
	}
	cost := problemCost + len(e.Detail)
	for i := range e.Fields {
		cost += 160 + len(e.Fields[i].Pointer) + len(e.Fields[i].Detail)
	}
	return int64(cost)
}

// nameAtMost cuts an error to at most limit fields, and returns how many remain.
func nameAtMost(e *request.Error, limit int) int {
	n := len(e.Fields)
	if n <= limit {
		return n
	}
	if n > 1 { // the detail of a single field is complete
		e.Detail = fmt.Sprintf("%d fields are not valid; the request has too many to name all of them.", n)
	}
	e.Fields = append([]genapi.FieldError(nil), e.Fields[:limit]...)
	return limit
}
