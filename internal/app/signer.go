package app

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/merkle"
)

// addSigner adds what signs the log to the workers, if there is a key.
func (a *app) addSigner(cfg config.Config, pool *pgxpool.Pool, registry prometheus.Registerer) {
	if !cfg.Keys.Private() {
		return
	}
	signer := merkle.NewSigner(merkle.Config{
		Pool: pool, Log: eventstore.New(pool), Keys: cfg.Keys, File: cfg.CheckpointFile, Logger: cfg.Log,
	})
	registry.MustRegister(newSignerMetrics(signer))
	a.workers = append(a.workers, signer.Run)
	if cfg.CheckpointURL != "" {
		a.addSender(registry, &merkle.Sender{
			Pool: pool, To: "url", Send: merkle.PostTo(cfg.CheckpointURL), Logger: cfg.Log,
			Active: func() bool { return signer.Status().State == merkle.Signing },
		})
	}
}

// addSender adds what sends checkpoints to a place to the workers.
func (a *app) addSender(registry prometheus.Registerer, s *merkle.Sender) {
	labels := prometheus.Labels{"to": s.To}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "passbook_checkpoint_sent_position", ConstLabels: labels,
			Help: "Position of the last event that a checkpoint covers which this instance has sent.",
		}, func() float64 { return float64(s.Status().Size) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "passbook_checkpoint_send_failing", ConstLabels: labels,
			Help: "1 if this instance's last attempt to send a checkpoint failed.",
		}, func() float64 { return oneIf(s.Status().Error != "") }),
	)
	a.workers = append(a.workers, s.Run)
}

// signerMetrics reads the state of a signer when it is scraped.
type signerMetrics struct {
	signer               *merkle.Signer
	state, position, lag *prometheus.Desc
}

func newSignerMetrics(s *merkle.Signer) *signerMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("passbook_signer_"+name, help, labels, nil)
	}
	return &signerMetrics{
		signer:   s,
		state:    desc("state", "1 for the state that the signer of this instance is in.", "state"),
		position: desc("position", "Position of the last event that a signed checkpoint covers, when this instance last looked."),
		lag:      desc("lag_events", "Events in the log that no signed checkpoint covered, when this instance last looked."),
	}
}

// Describe implements prometheus.Collector.
func (m *signerMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.position, m.lag} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *signerMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.signer.Status()
	for _, state := range merkle.States {
		out <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, oneIf(s.State == state), string(state))
	}
	out <- prometheus.MustNewConstMetric(m.position, prometheus.GaugeValue, float64(s.Size))
	out <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(max(0, s.Head-s.Size)))
}
