package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"passbook/internal/auth"
	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/httpapi"
	"passbook/internal/httpapi/feed"
	"passbook/internal/merkle"
	"passbook/internal/relay"
	"passbook/internal/stream"
)

// connectNATS returns a connection to the NATS servers at a URL, with the credentials of the settings.
func connectNATS(cfg config.Config, url, name string) (*stream.Conn, error) {
	conn, err := stream.Connect(stream.Options{
		URL: url, Credentials: cfg.NATSCredentials, CA: cfg.NATSCA, Cert: cfg.NATSCert, Key: cfg.NATSKey, Name: name,
	})
	if err != nil {
		return nil, config.Usage(err)
	}
	return conn, nil
}

// newRelay returns the relay of the settings, its metrics registered. The caller runs it with runRelay.
func newRelay(cfg config.Config, pool *pgxpool.Pool, registry prometheus.Registerer) (*relay.Relay, error) {
	conn, err := connectNATS(cfg, cfg.RelayURL, "passbook relay")
	if err != nil {
		return nil, err
	}
	store := eventstore.New(pool)
	r, err := relay.New(relay.Config{
		Log: store, Conn: conn, Stream: cfg.StreamName, Replicas: cfg.Replicas, Encode: CloudEvent(cfg.Naming), Logger: cfg.Log,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	registry.MustRegister(newRelayMetrics(r, store))
	return r, nil
}

// addRelay adds the relay of the settings, if there is one, to the workers, and returns what wakes it.
func (a *app) addRelay(cfg config.Config, pool *pgxpool.Pool, registry prometheus.Registerer) (wake func(), err error) {
	if cfg.RelayURL == "" {
		return func() {}, nil
	}
	r, err := newRelay(cfg, pool, registry)
	if err != nil {
		return nil, err
	}
	a.workers = append(a.workers, runRelay(r))
	a.addSender(registry, checkpointsOf(r, pool, cfg))
	return r.Wake, nil
}

// checkpointsOf returns what publishes the log's checkpoints, if it is signed, where a relay publishes the log.
func checkpointsOf(r *relay.Relay, pool *pgxpool.Pool, cfg config.Config) *merkle.Sender {
	return &merkle.Sender{
		Pool: pool, To: "stream", Send: r.PublishCheckpoint, Logger: cfg.Log,
		Active: func() bool { return r.Status().State == relay.Publishing },
	}
}

// runRelay runs a relay and closes its connection in the end.
func runRelay(r *relay.Relay) func(context.Context) error {
	return func(ctx context.Context) error {
		defer r.Conn.Close()
		return r.Run(ctx)
	}
}

// CloudEvent returns the function that renders an event as GET /events does.
func CloudEvent(naming feed.Naming) func(*eventstore.Event) ([]byte, error) {
	return func(e *eventstore.Event) ([]byte, error) {
		shown, err := feedEvent(e)
		if err != nil {
			return nil, err
		}
		return naming.CloudEvent(&shown)
	}
}

// Relay publishes the log without serving the API, until ctx ends. It listens for /livez and /metrics.
func Relay(ctx context.Context, cfg config.Config) (err error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with PASSBOOK_ADDR", err)
	}
	defer func() { _ = listener.Close() }()
	database, err := AttachDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Stop()) }()
	a := &app{}
	a.started.Store(true) // it does not migrate
	defer a.closePools()
	pool, err := a.pool(ctx, database.url, "passbook relay", relayConns, queryTimeout)
	if err != nil {
		return err
	}
	authenticator, err := a.authenticator(ctx, &cfg, database)
	if err != nil {
		return err
	}
	registry := newRegistry(map[string]*pgxpool.Pool{"relay": pool}, cfg.Version)
	r, err := newRelay(cfg, pool, registry)
	if err != nil {
		return err
	}
	a.addSender(registry, checkpointsOf(r, pool, cfg))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.Handle("GET /metrics", httpapi.RequireScope(authenticator, auth.MetricsRead, cfg.Log,
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})))
	server := newHTTPServer(mux, cfg.Log)
	cfg.Log.InfoContext(ctx, "listening", "addr", listener.Addr().String())
	group, work := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		defer func() { _ = server.Close() }()
		return runRelay(r)(work)
	})
	for _, worker := range a.workers {
		group.Go(func() error { return worker(work) })
	}
	return group.Wait()
}

// relayConns is how many connections to the database a relay has: one reads the log, one is for metrics.
const relayConns = 2

// relayMetrics reads the state of a relay when it is scraped.
type relayMetrics struct {
	relay *relay.Relay
	log   *eventstore.Store

	state, position, lag, seconds, published, republished, refused *prometheus.Desc
}

func newRelayMetrics(r *relay.Relay, log *eventstore.Store) *relayMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("passbook_relay_"+name, help, labels, nil)
	}
	return &relayMetrics{
		relay: r, log: log,
		state:       desc("state", "1 for the state that the relay of this instance is in.", "state"),
		position:    desc("position", "Position of the last event in the stream."),
		lag:         desc("lag_events", "Events in the log that are not in the stream yet."),
		seconds:     desc("lag_seconds", "Age of the oldest event that is not in the stream yet."),
		published:   desc("published_events_total", "Events that this instance has published."),
		republished: desc("republished_events_total", "Events that this instance has published again, because the stream had lost them."),
		refused:     desc("refused_batches_total", "Batches that the stream refused, because it did not end where the batch begins."),
	}
}

// Describe implements prometheus.Collector.
func (m *relayMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.position, m.lag, m.seconds, m.published, m.republished, m.refused} {
		out <- d
	}
}

// Collect implements prometheus.Collector. The lag is left out while the database is unavailable, and its age while the next event is
// in the archive.
func (m *relayMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.relay.Status()
	for _, state := range []relay.State{relay.Starting, relay.Publishing, relay.StandingBy, relay.Unavailable, relay.Halted} {
		out <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, oneIf(s.State == state), string(state))
	}
	out <- prometheus.MustNewConstMetric(m.position, prometheus.GaugeValue, float64(s.Position))
	out <- prometheus.MustNewConstMetric(m.published, prometheus.CounterValue, float64(s.Published))
	out <- prometheus.MustNewConstMetric(m.republished, prometheus.CounterValue, float64(s.Republished))
	out <- prometheus.MustNewConstMetric(m.refused, prometheus.CounterValue, float64(s.Refused))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	status, err := m.log.Status(ctx, 0, uuid.Nil)
	if err != nil {
		return
	}
	lag, age := max(0, status.Head.Position-s.Position), 0.0
	out <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(lag))
	if lag > 0 {
		next, err := m.log.ReadAfter(ctx, s.Position, 1)
		if err != nil {
			return
		}
		if len(next) > 0 {
			age = max(0, time.Since(next[0].RecordedAt).Seconds())
		}
	}
	out <- prometheus.MustNewConstMetric(m.seconds, prometheus.GaugeValue, age)
}
