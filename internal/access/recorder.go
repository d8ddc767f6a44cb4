package access

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrFull says that a read would not be recorded, and therefore must not happen.
var ErrFull = errors.New("access: the buffer of records is full")

const (
	// FlushEvery is how often records are written: what a killed instance loses.
	FlushEvery = 200 * time.Millisecond
	// defaultBuffer is Config.Buffer, unless set.
	defaultBuffer = 16 << 20
	// warnEvery is how often an outage of the table is logged.
	warnEvery = time.Minute
	// stopTimeout is how long the last records may take to be written.
	stopTimeout = 5 * time.Second
	// maxKept is how many records a batch may have for its memory to be used again.
	maxKept = 10_000
)

// Config is what a Recorder needs.
type Config struct {
	// Pool is of the primary.
	Pool *pgxpool.Pool
	// Rate is the share of the requests that are recorded, above 0; 1 is all of them.
	Rate   float64
	Logger *slog.Logger
	// Ready reports whether the table exists.
	Ready func() bool
	// Buffer is how many bytes of records may wait to be written before reads are refused, or records dropped; 0 means 16 MiB. If
	// every request is recorded, requests that have begun may take as much again.
	Buffer int64
}

// Recorder records requests. It is safe for concurrent use.
type Recorder struct {
	config Config
	run    uuid.UUID

	mu      sync.Mutex
	buffer  []Record
	size    int64 // of the buffer and of what is being written
	missing int64 // dropped since the last record of that
	ended   bool  // Run has ended
	counts  Counts

	// Owned by Run.
	batch    []Record // being written, perhaps not for the first time
	number   int64    // of the first record of batch
	rejected bool     // batch as a whole, so that its records are written one by one
	warnedAt time.Time
}

// Counts are totals since the start.
type Counts struct {
	// Written and Dropped are records, Refused are requests.
	Written, Dropped, Refused int64
	// Waiting is how many records have not been written yet.
	Waiting int
}

// New returns a Recorder, which writes nothing until Run.
func New(c Config) *Recorder {
	if c.Buffer <= 0 {
		c.Buffer = defaultBuffer
	}
	r := &Recorder{config: c, run: uuid.New(), number: 1}
	r.addRunRecord(Started, r.rate())
	return r
}

// addRunRecord adds a record about the run itself.
func (r *Recorder) addRunRecord(kind Kind, detail string) {
	r.buffer = append(r.buffer, Record{At: time.Now(), Kind: kind, AnyAccount: true, Detail: detail})
}

// all reports whether every request is recorded.
func (r *Recorder) all() bool { return r.config.Rate >= 1 }

func (r *Recorder) rate() string {
	if r.all() {
		return "all"
	}
	return strconv.FormatFloat(r.config.Rate, 'f', -1, 64)
}

// Begin reports whether a request is recorded. Nothing of the request decides that, so that no caller can. If every request is, it
// returns ErrFull when there is no room for another record, or when Run has ended.
func (r *Recorder) Begin() (recorded bool, err error) {
	if !r.all() {
		return rand.Float64() < r.config.Rate, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.size >= r.config.Buffer {
		r.counts.Refused++
		return true, ErrFull
	}
	return true, nil
}

// Add adds the record of a request. It never blocks. Without room it drops the record, and counts it.
func (r *Recorder) Add(record Record) {
	limit, size := r.config.Buffer, record.size()
	if r.all() {
		limit *= 2
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		r.config.Logger.Error("a request outlived the access audit and is not recorded", "route", record.Route, "request_id", record.RequestID)
	}
	if r.ended || r.size+size > limit {
		r.missing++
		r.counts.Dropped++
		return
	}
	r.size += size
	r.buffer = append(r.buffer, record)
}

// Counts returns the totals.
func (r *Recorder) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	c.Waiting += len(r.buffer)
	return c
}

// Run writes records until ctx ends, and then the last ones. It returns nil.
func (r *Recorder) Run(ctx context.Context) error {
	ticker := time.NewTicker(FlushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.stop(context.WithoutCancel(ctx))
			return nil
		case <-ticker.C:
			if r.config.Ready() {
				r.flush(ctx)
			}
		}
	}
}

// stop writes the last records, and that there will be no more.
func (r *Recorder) stop(ctx context.Context) {
	if !r.config.Ready() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for r.flush(ctx); len(r.batch) > 0 && ctx.Err() == nil; r.flush(ctx) {
		pause(ctx, FlushEvery)
	}
	r.mu.Lock()
	r.ended = true
	r.addRunRecord(Stopped, r.rate())
	r.mu.Unlock()
	if r.flush(ctx); len(r.batch) > 0 {
		r.config.Logger.ErrorContext(ctx, "the last records of the access audit could not be written and are lost", "records", r.Counts().Waiting)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// flush writes the batch that is left over, if any, and what the buffer holds.
func (r *Recorder) flush(ctx context.Context) {
	for range 2 {
		if len(r.batch) == 0 && !r.take() {
			return
		}
		dropped, err := r.write(ctx)
		if err != nil {
			r.warn(ctx, err)
			return
		}
		r.written(dropped)
	}
}

// write writes the batch. If PostgreSQL rejects it, it writes the records one by one, and returns how many were rejected. Then a retry
// does that too: the numbers of the others must stay the same.
func (r *Recorder) write(ctx context.Context) (dropped int, err error) {
	if !r.rejected {
		err = write(ctx, r.config.Pool, r.run, r.number, r.batch)
		if !isRejected(err) {
			return 0, err
		}
		r.rejected = true
	}
	for i := range r.batch {
		err := write(ctx, r.config.Pool, r.run, r.number+int64(i-dropped), r.batch[i:i+1])
		switch {
		case isRejected(err):
			r.config.Logger.ErrorContext(ctx, "a record of the access audit was rejected and is dropped", "route", r.batch[i].Route,
				"request_id", r.batch[i].RequestID, "error", err)
			dropped++
		case err != nil:
			return 0, err
		}
	}
	return dropped, nil
}

// take makes the buffer the batch, and reports whether it holds anything.
func (r *Recorder) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missing > 0 {
		r.addRunRecord(Dropped, strconv.FormatInt(r.missing, 10))
		r.missing = 0
	}
	r.batch, r.buffer = r.buffer, r.batch[:0]
	r.counts.Waiting = len(r.batch)
	return len(r.batch) > 0
}

// written forgets the batch, of which some records were dropped.
func (r *Recorder) written(dropped int) {
	written := int64(len(r.batch) - dropped)
	r.number += written
	r.rejected = false
	var size int64
	for i := range r.batch {
		if !r.batch[i].ofRun() {
			size += r.batch[i].size()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size -= size
	r.counts.Written += written
	r.counts.Dropped += int64(dropped)
	r.missing += int64(dropped)
	r.counts.Waiting = 0
	if clear(r.batch); cap(r.batch) > maxKept {
		r.batch = nil
	}
	r.batch = r.batch[:0]
}

func (r *Recorder) warn(ctx context.Context, err error) {
	if now := time.Now(); ctx.Err() == nil && now.Sub(r.warnedAt) >= warnEvery {
		r.warnedAt = now
		r.config.Logger.WarnContext(ctx, "writing the access audit failed; retrying", "records", r.Counts().Waiting, "error", err)
	}
}
