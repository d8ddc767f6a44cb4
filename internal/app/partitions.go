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
	leftSQL   = `select coalesce((select max(last_position) from log_partitions), 0)
     - coalesce((select position from events order by position desc limit 1), 0)`
)

// partitions keeps an empty partition of the log ahead of its head. Every instance does; the database makes each only once.
type partitions struct {
	pool *pgxpool.Pool
	size int64
	log  *slog.Logger
	left atomic.Int64 // positions, as last read, or unread
}

func newPartitions(pool *pgxpool.Pool, size int64, log *slog.Logger, registry prometheus.Registerer) *partitions {
	p := &partitions{pool: pool, size: size, log: log}
	p.left.Store(unread)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "passbook_log_positions_left", Help: "Positions that the log has partitions for, after its head.",
	}, func() float64 {
		if left := p.left.Load(); left != unread {
			return float64(left)
		}
		return math.NaN()
	}))
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
	var left int64
	err := p.pool.QueryRow(ctx, extendSQL, p.size).Scan(&left)
	if err == nil {
		p.left.Store(left)
		return nil
	}
	if left, readErr := p.read(ctx); readErr == nil {
		p.left.Store(left)
	}
	if postgres.IsReadOnly(err) { // a standby, or the primary during a switch: the primary's instances do it
		return nil
	}
	return fmt.Errorf("extend the log: %w", err)
}

func (p *partitions) read(ctx context.Context) (left int64, err error) {
	err = p.pool.QueryRow(ctx, leftSQL).Scan(&left)
	return left, err
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
	}
	return check
}
