package app

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/access"
	"passbook/internal/config"
	"passbook/internal/httpapi"
)

// callers returns what identifies callers and what records their reads, each nil if it is off. It adds their background work to the
// workers.
func (a *app) callers(ctx context.Context, cfg *config.Config, d *Database, pools map[string]*pgxpool.Pool, registry prometheus.Registerer,
) (httpapi.Authenticator, httpapi.Recorder, error) {
	authenticator, err := a.authenticator(ctx, cfg, d)
	if err != nil {
		return nil, nil, err
	}
	// Records of before expire also while the audit is off.
	retention := &access.Retention{Store: access.NewStore(pools["projector"]), Keep: cfg.AccessRetention, Logger: cfg.Log}
	a.workers = append(a.workers, retention.Run)
	recorder, err := a.newAudit(ctx, cfg, d, registry)
	return authenticator, recorder, err
}

// newAudit returns what records reads, or nil if the audit is off. It adds the recorder to the workers.
func (a *app) newAudit(ctx context.Context, cfg *config.Config, d *Database, registry prometheus.Registerer) (httpapi.Recorder, error) {
	if cfg.AccessRate == 0 {
		return nil, nil
	}
	// A pool of its own, so that slow queries do not keep records waiting.
	pool, err := a.pool(ctx, d.url, "passbook audit", 1, 10*time.Second)
	if err != nil {
		return nil, err
	}
	recorder := access.New(access.Config{Pool: pool, Rate: cfg.AccessRate, Logger: cfg.Log, Ready: a.started.Load})
	counter := func(name, help string, count func(access.Counts) int64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(count(recorder.Counts())) }))
	}
	counter("passbook_access_records_total", "Records of the access audit that this instance has written.",
		func(c access.Counts) int64 { return c.Written })
	counter("passbook_access_dropped_total", "Records of the access audit that this instance had no room for.",
		func(c access.Counts) int64 { return c.Dropped })
	counter("passbook_access_refused_total", "Reads that were refused because they could not be recorded.",
		func(c access.Counts) int64 { return c.Refused })
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "passbook_access_waiting_records", Help: "Records of the access audit that this instance has not written yet.",
	}, func() float64 { return float64(recorder.Counts().Waiting) }))
	a.workers = append(a.workers, recorder.Run)
	return recorder, nil
}
