package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"passbook/internal/projector"
)

// newRegistry returns the registry of the process, with the metrics of Go, the process, the pools and the build.
func newRegistry(pools map[string]*pgxpool.Pool, version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newPoolMetrics(pools))
	registerBuild(registry, version)
	return registry
}

// projectionMetrics reads the projections' state when it is scraped.
type projectionMetrics struct {
	engine projectionStates
	// ready reports whether the database can be queried yet.
	ready                              func() bool
	position, head, lag, seconds, halt *prometheus.Desc
	parked, failures, paused           *prometheus.Desc
	replaying, replayed, replayTotal   *prometheus.Desc
	database                           *prometheus.Desc

	mu    sync.Mutex
	known []projector.Status // last read from the database
}

// projectionStates returns the state of the projections; a projector.Engine does.
type projectionStates interface {
	Projections(ctx context.Context) ([]projector.Status, error)
}

func newProjectionMetrics(engine projectionStates, ready func() bool) *projectionMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("passbook_projection_"+name, help, []string{"projection"}, nil)
	}
	return &projectionMetrics{
		engine:   engine,
		ready:    ready,
		position: desc("position", "Position of the last event applied."),
		head:     desc("head", "Position of the last event in the log."),
		lag:      desc("lag_events", "Events in the log that are not applied yet."),
		seconds:  desc("lag_seconds", "Age of the oldest event that is not applied yet."),
		halt:     desc("halted", "1 if the projection has stopped at an event it cannot apply."),
		parked:   desc("parked_streams", "Accounts set aside at an event that could not be applied."),
		failures: desc("failures_total", "Failed attempts to apply an event, retries included."),
		paused:   desc("paused", "1 if the projection is paused."),

		replaying:   desc("replay_running", "1 while a replay builds the next generation."),
		replayed:    desc("replay_processed_events", "Events that the running or last replay has applied."),
		replayTotal: desc("replay_total_events", "Events that the running or last replay has to apply."),

		database: prometheus.NewDesc("passbook_database_up", "1 if the database could be queried at this scrape.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *projectionMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.position, m.head, m.lag, m.seconds, m.halt, m.parked, m.failures, m.paused, m.replaying, m.replayed, m.replayTotal, m.database,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector. While the database is unavailable it reports the last known state, so that an alert
// about a halted projection does not resolve.
func (m *projectionMetrics) Collect(out chan<- prometheus.Metric) {
	all, err := m.state()
	out <- prometheus.MustNewConstMetric(m.database, prometheus.GaugeValue, oneIf(err == nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.known = all
	}
	for i := range m.known {
		m.collect(&m.known[i], out)
	}
}

var errStarting = errors.New("the schema is not in place yet")

func (m *projectionMetrics) state() ([]projector.Status, error) {
	if !m.ready() {
		return nil, errStarting
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return m.engine.Projections(ctx)
}

func (m *projectionMetrics) collect(p *projector.Status, out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, p.ID)
	}
	gauge(m.position, float64(p.Position))
	gauge(m.head, float64(p.Head))
	gauge(m.lag, float64(p.Lag))
	gauge(m.seconds, p.LagSeconds)
	gauge(m.halt, oneIf(p.State == projector.Halted))
	gauge(m.paused, oneIf(p.State == projector.Paused))
	gauge(m.parked, float64(p.Parked))
	out <- prometheus.MustNewConstMetric(m.failures, prometheus.CounterValue, float64(p.Failures), p.ID)
	var r projector.Replay
	if p.Replay != nil {
		r = *p.Replay
	}
	gauge(m.replaying, oneIf(r.State == projector.ReplayRunning))
	gauge(m.replayed, float64(r.Processed))
	gauge(m.replayTotal, float64(r.Total))
}

func oneIf(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
