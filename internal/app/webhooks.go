package app

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"passbook/internal/config"
	"passbook/internal/httpapi/feed"
	"passbook/internal/webhook"
)

// webhooks are the subscriptions with a feed of their own, so that they and the streams of GET /events take no places from each other.
type webhooks struct {
	*webhook.Service
	events *feed.Feed
}

func (a *app) newWebhooks(cfg config.Config, pools map[string]*pgxpool.Pool, instance string, registry prometheus.Registerer) (*webhooks, error) {
	primary := a.subjects.log(primaryOf(pools))
	w := &webhooks{events: a.newFeed(cfg, pools, 2*webhook.MaxWebhooks)}
	var err error
	w.Service, err = webhook.NewService(webhook.Config{
		Pool: pools["projector"], Feed: webhook.Streams(w.events), Log: feedLog{primary, primary}, Logger: cfg.Log, Instance: instance,
		Version: cfg.Version, AllowPrivate: cfg.WebhooksAllowPrivate, Ready: a.started.Load, Observe: newDeliveryMeter(registry),
	})
	if err != nil {
		return nil, err
	}
	registry.MustRegister(newWebhookMetrics(w.Service, a.started.Load))
	return w, nil
}

// Run delivers until ctx ends, and returns nil.
func (w *webhooks) Run(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return w.events.Run(ctx) })
	group.Go(func() error { return w.Service.Run(ctx) })
	return group.Wait()
}

// newDeliveryMeter returns what counts the attempts of this instance.
func newDeliveryMeter(registry prometheus.Registerer) func(delivered bool) {
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "passbook_webhook_deliveries_total", Help: "Attempts of this instance to deliver an event to a webhook, by outcome.",
	}, []string{"outcome"})
	registry.MustRegister(attempts)
	outcomes := map[bool]prometheus.Counter{true: attempts.WithLabelValues("delivered"), false: attempts.WithLabelValues("failed")}
	return func(delivered bool) { outcomes[delivered].Inc() }
}

// subscriptions returns all webhooks; a *webhook.Service does.
type subscriptions interface {
	Webhooks(ctx context.Context) ([]webhook.Webhook, error)
}

// webhookMetrics reads the state of the webhooks when it is scraped. They are reported together, because ids come and go.
type webhookMetrics struct {
	webhooks   subscriptions
	ready      func() bool
	count, lag *prometheus.Desc

	mu    sync.Mutex
	known []webhook.Webhook // last read from the database
}

func newWebhookMetrics(webhooks subscriptions, ready func() bool) *webhookMetrics {
	return &webhookMetrics{
		webhooks: webhooks, ready: ready,
		count: prometheus.NewDesc("passbook_webhooks", "Webhooks, by state.", []string{"state"}, nil),
		lag:   prometheus.NewDesc("passbook_webhook_lag_events", "Events in the log after the cursor of the active webhook that is furthest behind.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *webhookMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.count
	out <- m.lag
}

// Collect implements prometheus.Collector. While the database is unavailable it reports the last known state.
func (m *webhookMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ready() {
		if all, err := m.webhooks.Webhooks(ctx); err == nil {
			m.known = all
		}
	}
	counts, lag := make(map[webhook.State]int), int64(0)
	for i := range m.known {
		w := &m.known[i]
		counts[w.State]++
		if w.State == webhook.Active {
			lag = max(lag, w.Lag)
		}
	}
	for _, state := range []webhook.State{webhook.Active, webhook.Paused, webhook.Parked, webhook.Disabled} {
		out <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(counts[state]), string(state))
	}
	out <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(lag))
}
