package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"passbook/internal/projector"
)

// newRegistry is where the metrics of the process are; ready tells whether the database can be asked at all.
func newRegistry(engine *projector.Engine, ready func() bool) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newProjectionMetrics(engine, ready))
	return registry
}

// projectionMetrics reads the projections' state when it is scraped.
type projectionMetrics struct {
	engine *projector.Engine
	// ready tells whether the database can be asked at all.
	ready                              func() bool
	position, head, lag, seconds, halt *prometheus.Desc
	parked, failures                   *prometheus.Desc
}

func newProjectionMetrics(engine *projector.Engine, ready func() bool) *projectionMetrics {
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
		failures: desc("failures_total", "How often an event could not be applied, tries included."),
	}
}

// Describe implements prometheus.Collector.
func (m *projectionMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.position, m.head, m.lag, m.seconds, m.halt, m.parked, m.failures} {
		out <- d
	}
}

// Collect implements prometheus.Collector. When the database is away there is nothing to tell.
func (m *projectionMetrics) Collect(out chan<- prometheus.Metric) {
	if !m.ready() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	all, err := m.engine.Projections(ctx)
	if err != nil {
		return
	}
	for _, p := range all {
		gauge := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, p.ID)
		}
		gauge(m.position, float64(p.Position))
		gauge(m.head, float64(p.Head))
		gauge(m.lag, float64(p.Lag))
		gauge(m.seconds, p.LagSeconds)
		halted := 0.0
		if p.State == "halted" {
			halted = 1
		}
		gauge(m.halt, halted)
		gauge(m.parked, float64(p.Parked))
		out <- prometheus.MustNewConstMetric(m.failures, prometheus.CounterValue, float64(p.Failures), p.ID)
	}
}
