package app

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/httpapi"
	"passbook/internal/postgres"
)

const (
	// extendEvery is how often an instance looks whether the log needs another partition.
	extendEvery = 5 * time.Second

	unread = -1

	extendSQL = `select extend_log($1)`
	boundsSQL = `select coalesce((select max(last_position) from log_partitions), 0)
     - coalesce((select position from events order by position desc limit 1), 0), first_position from log_begin`
)

// partitions keeps an empty partition of the log ahead of its head. Every instance does; the database makes each only once.
type partitions struct {
	pool *pgxpool.Pool
	size int64
	log  *slog.Logger
	// As last read, or unread: how many positions are left, and the first one from which on the log has every event.
	left, first atomic.Int64
}

func newPartitions(pool *pgxpool.Pool, size int64, log *slog.Logger, registry prometheus.Registerer) *partitions {
	p := &partitions{pool: pool, size: size, log: log}
	gauge := func(name, help string, value *atomic.Int64) {
		value.Store(unread)
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if read := value.Load(); read != unread {
				return float64(read)
			}
			return math.NaN()
		}))
	}
	gauge("passbook_log_positions_left", "Positions that the log has partitions for, after its head.", &p.left)
	gauge("passbook_log_first_position", "The first position from which on the log has every event; earlier ones are in the archive.", &p.first)
	return p
}

// Run calls RunOnce every few seconds until ctx ends.
func (p *partitions) Run(ctx context.Context) error {
	for failing := false; ctx.Err() == nil; sleep(ctx, extendEvery) {
		err := p.RunOnce(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			p.log.WarnContext(ctx, "the log cannot be extended by a partition; retrying", "positions_left", p.left.Load(), "error", err)
		}
		failing = err != nil
	}
	return nil
}

// RunOnce makes the partitions that are missing.
func (p *partitions) RunOnce(ctx context.Context) error {
	_, err := p.pool.Exec(ctx, extendSQL, p.size)
	if _, readErr := p.read(ctx); err == nil {
		return readErr
	}
	if postgres.IsReadOnly(err) { // a standby, or the primary during a switch: the primary's instances do it
		return nil
	}
	return fmt.Errorf("extend the log: %w", err)
}

// read reads how many positions are left, and where the log begins.
func (p *partitions) read(ctx context.Context) (left int64, err error) {
	var first int64
	if err = p.pool.QueryRow(ctx, boundsSQL).Scan(&left, &first); err != nil {
		return 0, fmt.Errorf("read the bounds of the log: %w", err)
	}
	p.left.Store(left)
	p.first.Store(first)
	return left, nil
}

// check reports whether the log has room for the next event.
func (p *partitions) check(ctx context.Context) httpapi.Check {
	check := httpapi.Check{Name: "log"}
	switch left, err := p.read(ctx); {
	case err != nil:
		check.Detail = "its partitions cannot be read"
	case left < 1:
		check.Detail = "has no partition for the next position: commands get 503 until an instance can make one; its log says what fails"
	default:
		check.OK, check.Detail = true, fmt.Sprintf("has partitions for %d more events", left)
		if first := p.first.Load(); first > 1 {
			check.Detail += fmt.Sprintf("; events 1 to %d are in the archive", first-1)
		}
	}
	return check
}
