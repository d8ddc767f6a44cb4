package app

import (
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/account"
	"passbook/internal/command"
)

// The outcomes of a command, in metrics.
const (
	applied = iota
	replayed
	refused
	overloaded
	failed
	outcomes
)

var outcomeNames = [outcomes]string{
	applied:    "applied",
	replayed:   "replayed",   // by an earlier request with its key
	refused:    "refused",    // by the rules, by If-Match, or because of its key
	overloaded: "overloaded", // the queue was full
	failed:     "failed",     // the database is unavailable, the caller has disconnected, or anything else
}

// commandMeter counts commands and appends. It creates its counters up front, so that counting a command is one addition.
type commandMeter struct {
	kinds  map[string]*[outcomes]prometheus.Counter
	batch  prometheus.Histogram
	took   prometheus.Histogram
	events prometheus.Counter
}

func newCommandMeter(registry prometheus.Registerer) *commandMeter {
	counts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "passbook_commands_total", Help: "Commands completed, by kind and outcome.",
	}, []string{"command", "outcome"})
	m := &commandMeter{
		kinds: make(map[string]*[outcomes]prometheus.Counter),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "passbook_append_batch_events", Help: "Events in an append.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "passbook_append_duration_seconds", Help: "Duration of an append, with its commit and round trip.",
			Buckets: []float64{.0005, .001, .002, .003, .005, .0075, .01, .015, .025, .05, .1, .25, .5, 1, 5},
		}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "passbook_events_appended_total", Help: "Events that this instance has appended to the log.",
		}),
	}
	for _, c := range []account.Command{
		account.Open{},
		account.Deposit{},
		account.Withdraw{},
		account.Transfer{},
		account.Suspend{},
		account.Reactivate{},
		account.Close{},
		account.Change{},
		account.PlaceHold{},
		account.CaptureHold{},
		account.ReleaseHold{},
		account.ExpireHold{},
		account.Reverse{},
	} {
		row := new([outcomes]prometheus.Counter)
		for i, outcome := range outcomeNames {
			row[i] = counts.WithLabelValues(c.Name(), outcome)
		}
		m.kinds[c.Name()] = row
	}
	registry.MustRegister(counts, m.batch, m.took, m.events)
	return m
}

// settled is for command.Config.Settled.
func (m *commandMeter) settled(c account.Command, isReplay bool, err error) {
	outcome := applied
	switch {
	case err != nil:
		outcome = outcomeOf(err)
	case isReplay:
		outcome = replayed
	}
	if row := m.kinds[c.Name()]; row != nil {
		row[outcome].Inc()
	}
}

func outcomeOf(err error) int {
	if errors.Is(err, command.ErrOverloaded) {
		return overloaded
	}
	if _, ok := errors.AsType[*command.RefusedBeforeError](err); ok {
		return replayed
	}
	if account.IsRefusal(err) || errors.Is(err, command.ErrKeyReused) || errors.Is(err, command.ErrKeyInFlight) {
		return refused
	}
	if _, ok := errors.AsType[*command.VersionError](err); ok {
		return refused
	}
	return failed
}

// appended is for command.Config.Appended.
func (m *commandMeter) appended(events int, took time.Duration) {
	m.batch.Observe(float64(events))
	m.took.Observe(took.Seconds())
	m.events.Add(float64(events))
}

// applyMeter counts what the projector of this instance does.
type applyMeter struct {
	events *prometheus.CounterVec
	took   *prometheus.HistogramVec
}

func newApplyMeter(registry prometheus.Registerer) *applyMeter {
	m := &applyMeter{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "passbook_projection_applied_events_total", Help: "Events that this instance has applied to the live read model.",
		}, []string{"projection"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "passbook_projection_apply_duration_seconds", Help: "Time to read and apply a batch of events.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"projection"}),
	}
	registry.MustRegister(m.events, m.took)
	return m
}

func (m *applyMeter) observe(projection string, events int64, took time.Duration) {
	m.events.WithLabelValues(projection).Add(float64(events))
	m.took.WithLabelValues(projection).Observe(took.Seconds())
}

// newQueueGauge returns the number of waiting commands.
func newQueueGauge(commands *command.Service) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "passbook_commands_queued", Help: "Commands waiting for a batch; an atomic group counts as one.",
	}, func() float64 { return float64(commands.Queued()) })
}

// registerBuild registers the version that is running.
func registerBuild(registry prometheus.Registerer, version string) {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "passbook_build_info", Help: "Always 1; its labels are the version that is running.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	}, func() float64 { return 1 }))
}

// poolMetrics reads the connection pools' statistics when it is scraped.
type poolMetrics struct {
	pools                                                   map[string]*pgxpool.Pool
	connections, most, acquires, waited, waiting, abandoned *prometheus.Desc
}

func newPoolMetrics(pools map[string]*pgxpool.Pool) *poolMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("passbook_pool_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &poolMetrics{
		pools:       pools,
		connections: desc("connections", "Connections to the database, by state.", "state"),
		most:        desc("max_connections", "Most connections the pool may have."),
		acquires:    desc("acquires_total", "Connections acquired from the pool."),
		waited:      desc("waited_acquires_total", "Acquires that had to wait for a connection."),
		waiting:     desc("acquire_wait_seconds_total", "Time spent waiting for a connection."),
		abandoned:   desc("canceled_acquires_total", "Acquires cancelled while waiting."),
	}
}

// Describe implements prometheus.Collector.
func (m *poolMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.connections, m.most, m.acquires, m.waited, m.waiting, m.abandoned} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *poolMetrics) Collect(out chan<- prometheus.Metric) {
	for name, pool := range m.pools {
		s := pool.Stat()
		emit := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, kind, v, append([]string{name}, labels...)...)
		}
		emit(m.connections, prometheus.GaugeValue, float64(s.AcquiredConns()), "in_use")
		emit(m.connections, prometheus.GaugeValue, float64(s.IdleConns()), "idle")
		emit(m.connections, prometheus.GaugeValue, float64(s.ConstructingConns()), "connecting")
		emit(m.most, prometheus.GaugeValue, float64(s.MaxConns()))
		emit(m.acquires, prometheus.CounterValue, float64(s.AcquireCount()))
		emit(m.waited, prometheus.CounterValue, float64(s.EmptyAcquireCount()))
		emit(m.waiting, prometheus.CounterValue, s.EmptyAcquireWaitTime().Seconds())
		emit(m.abandoned, prometheus.CounterValue, float64(s.CanceledAcquireCount()))
	}
}
