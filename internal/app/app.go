// Package app wires the parts of the service together, starts them, reports their health, and stops them in order. Start
// reading at Serve.
package app

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"passbook/internal/access"
	"passbook/internal/account"
	"passbook/internal/account/eventjson"
	"passbook/internal/auth"
	"passbook/internal/command"
	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/expiry"
	"passbook/internal/httpapi"
	"passbook/internal/merkle"
	"passbook/internal/notify"
	"passbook/internal/postgres"
	"passbook/internal/projector"
	"passbook/internal/query"
	"passbook/internal/readmodel"
)

// app is the service: data flows from the handler through commands and the log to the projector, and from the read
// models through queries back to the handler.
type app struct {
	handler http.Handler
	pools   []*pgxpool.Pool
	// started is set once the schema is in place; until then no request reaches the database.
	started atomic.Bool
	// stopping is set once the service has been told to stop.
	stopping atomic.Bool
	// waiting says what the start is waiting for.
	waiting atomic.Pointer[string]
	workers []func(context.Context) error
	// endStreams ends the endless responses, for which http.Server.Shutdown would wait.
	endStreams func()
	tracing    *tracing  // nil if it is off
	subjects   *subjects // nil if it is off
}

// newApp wires the service. It does not need the database yet.
func newApp(ctx context.Context, cfg config.Config, d *Database) (_ *app, err error) {
	a := &app{}
	a.waiting.Store(new("is being brought up to date"))
	defer func() {
		if err != nil {
			a.closePools()
		}
	}()
	if a.tracing, err = newTracing(ctx, cfg.TracesURL, cfg.Version, cfg.Log); err != nil {
		return nil, err
	}
	pools, err := a.openPools(ctx, cfg, d)
	if err != nil {
		return nil, err
	}
	registry := newRegistry(pools, cfg.Version)
	queries, instance := query.New(pools["queries"], primaryOf(pools)), d.instance()
	notifier := notify.New(pools["notifications"], instance)
	engine, err := a.newEngine(cfg, pools["projector"], projector.Config{
		Instance: instance, Notifier: notifier, Observe: newApplyMeter(registry).observe,
		Applied: func(string, int64) { queries.Applied() },
	})
	if err != nil {
		return nil, err
	}
	queries.OnWait(engine.ShortenDelay)
	events := a.newFeed(cfg, pools, cfg.MaxStreams)
	hooks, err := a.newWebhooks(cfg, pools, instance, registry)
	if err != nil {
		return nil, err
	}
	authenticator, recorder, err := a.callers(ctx, &cfg, d, pools, registry)
	if err != nil {
		return nil, err
	}
	stopping := make(chan struct{})
	a.endStreams = sync.OnceFunc(func() { close(stopping); events.Stop() })
	if cfg.FollowURL != "" {
		queries.ReadFollower()
	}
	parts := newPartitions(pools["projector"], cfg.PartitionSize, cfg.Log, registry)
	wake := func() { engine.Wake(); events.Wake(); hooks.events.Wake(); notifier.Notify() }
	commands, writerCheck, err := a.addWriter(ctx, cfg, d, pools, registry, wake)
	if err != nil {
		return nil, err
	}
	registry.MustRegister(newProjectionMetrics(engine, a.started.Load))
	a.handler, err = httpapi.New(httpapi.Config{
		Commands: commands, Follower: cfg.FollowURL != "", PrimaryURL: cfg.PrimaryURL, Queries: queries, Statements: queries, Holds: queries, Movements: queries, Projections: engine, Control: engine, Replays: engine, Feed: events,
		Authenticator: authenticator, Authentication: cfg.Auth, Hosts: cfg.Hosts, CORSOrigins: cfg.CORSOrigins, BasePath: cfg.BasePath, RateLimit: cfg.RateLimit,
		MaxStreams: cfg.MaxStreams, MaxStreamsPerCaller: cfg.MaxStreamsPerCaller, Recorder: recorder, AccessRecords: access.NewStore(primaryOf(pools)),
		Webhooks: hooks, WebhookControl: hooks, WebhookRules: hooks, Proofs: merkle.NewProver(pools["feed"]), Subjects: a.addEraser(cfg, pools["projector"], commands, registry), Generations: engine, Failures: engine, Statistics: queries, Stopping: stopping, Ready: a.readiness(pools, engine, parts, writerCheck),
		Started: a.started.Load, Unavailable: unavailable, Logger: cfg.Log, Registry: registry, Version: cfg.Version,
	})
	if err != nil {
		return nil, err
	}
	a.handler = a.tracing.handler(a.handler)
	a.addSigner(cfg, pools["projector"], registry)
	a.workers = append(a.workers, engine.Run, queries.Run, events.Run, notifier.Run, hooks.Run, parts.Run)
	return a, nil
}

// addWriter adds what writes the log to the workers: the write side, or on a follower, which takes no commands, the stream's reader.
// It returns the readiness check too. After each append it calls appended.
func (a *app) addWriter(ctx context.Context, cfg config.Config, d *Database, pools map[string]*pgxpool.Pool, registry prometheus.Registerer,
	appended func(),
) (httpapi.Commands, func() httpapi.Check, error) {
	if cfg.FollowURL != "" {
		check, err := a.addFollower(ctx, cfg, d, registry, appended)
		return nil, check, err
	}
	commands, err := a.addCommands(cfg, pools, registry, appended)
	if err != nil {
		return nil, nil, err
	}
	return commands, func() httpapi.Check { return commandsCheck(commands) }, nil
}

// addCommands adds the write side to the workers, with what comes with it: the relay, and what expires holds and keys. After each
// append it calls appended.
func (a *app) addCommands(cfg config.Config, pools map[string]*pgxpool.Pool, registry prometheus.Registerer, appended func(),
) (*command.Service, error) {
	wakeRelay, err := a.addRelay(cfg, pools["relay"], registry)
	if err != nil {
		return nil, err
	}
	meter := newCommandMeter(registry)
	commands, err := a.newCommands(pools["commands"], meter.settled, func(events int, took time.Duration) {
		meter.appended(events, took)
		appended()
		wakeRelay()
	})
	if err != nil {
		return nil, err
	}
	registry.MustRegister(newQueueGauge(commands))
	a.workers = append(a.workers, commands.Run, newExpiry(cfg, pools["projector"], commands).Run)
	return commands, nil
}

// newCommands returns the write side, which calls settled and appended as command.Config says.
func (a *app) newCommands(
	pool *pgxpool.Pool, settled func(account.Command, bool, error), appended func(int, time.Duration),
) (*command.Service, error) {
	c := command.Config{Store: a.subjects.writeLog(pool), Settled: settled, Appended: appended}
	if a.tracing != nil {
		c.Appending = a.tracing.appending
	}
	return command.New(c)
}

func newExpiry(cfg config.Config, pool *pgxpool.Pool, commands *command.Service) *expiry.Worker {
	return expiry.New(expiry.Config{
		Pool: pool, Commands: commands, KeepKeys: cfg.IdempotencyTTL, Logger: cfg.Log,
	})
}

// newEngine returns the projector with all projections.
func (a *app) newEngine(cfg config.Config, pool *pgxpool.Pool, c projector.Config) (*projector.Engine, error) {
	store := a.subjects.log(pool)
	c.Pool, c.Log, c.Decode, c.Transient, c.Logger = pool, store, decode, postgres.IsUnavailable, cfg.Log
	a.tracing.follow(&c, store)
	return projector.New(c, readmodel.Balances(), readmodel.Transactions(), readmodel.Totals(), readmodel.Holds(), readmodel.Stats())
}

// queryTimeout limits each statement of a query.
const queryTimeout = 10 * time.Second

// openPools opens a pool for each use, and that of the subjects' keys, so that slow queries cannot keep commands waiting for a connection.
func (a *app) openPools(ctx context.Context, cfg config.Config, d *Database) (map[string]*pgxpool.Pool, error) {
	type use struct {
		name, url string
		size      int32
		timeout   time.Duration // of a statement
		options   []postgres.Option
	}
	uses := []use{
		{"commands", d.url, 4, 10 * time.Second, []postgres.Option{
			// An append waits for other instances to release the append lock; PostgreSQL ends a silent holder before they give up.
			postgres.WithLockTimeout(5 * time.Second), postgres.WithIdleInTransactionTimeout(2 * time.Second),
			postgres.WithIndexLookups(),
		}},
		// A statement of a replay may take long. But the API reads the projections' state with this pool too, and must not wait
		// longer for a locked table than a query does.
		{"projector", d.url, 10, time.Minute, []postgres.Option{postgres.WithLockTimeout(queryTimeout)}},
		{"queries", d.queryURL, 8, queryTimeout, nil},
		{"feed", d.queryURL, 4, queryTimeout, nil},
	}
	if d.queryURL != d.url { // for queries that a replica cannot answer
		uses = append(uses, use{"primary", d.url, 2, queryTimeout, nil})
	}
	if cfg.RelayURL != "" {
		uses = append(uses, use{"relay", d.url, relayConns, queryTimeout, nil})
	}
	pools := make(map[string]*pgxpool.Pool)
	for _, p := range uses {
		pool, err := a.pool(ctx, p.url, "passbook "+p.name, p.size, p.timeout, p.options...)
		if err != nil {
			return nil, err
		}
		pools[p.name] = pool
	}
	pools["notifications"] = pools["projector"]
	if d.directURL != d.url {
		pool, err := a.pool(ctx, d.directURL, "passbook notifications", 1, 10*time.Second)
		if err != nil {
			return nil, err
		}
		pools["notifications"] = pool
	}
	var err error
	a.subjects, err = a.newSubjects(ctx, cfg)
	return pools, err
}

// primaryOf returns the pool for queries that a replica cannot answer.
func primaryOf(pools map[string]*pgxpool.Pool) *pgxpool.Pool {
	if primary := pools["primary"]; primary != nil {
		return primary
	}
	return pools["queries"] // there is no replica
}

// run migrates the schema, once the database is available, then calls up and works until ctx ends. An error means that the
// service cannot continue.
func (a *app) run(ctx context.Context, cfg config.Config, d *Database, up func()) error {
	defer a.tracing.stop(cfg.Log)
	defer a.closePools()
	err := migrateWhenUp(ctx, cfg, d.OwnerURL, func(what string) { a.waiting.Store(&what) },
		func(ctx context.Context) error {
			if err := a.logRole(ctx, cfg); err != nil {
				return err
			}
			return a.subjects.prepare(ctx)
		})
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it was up
		}
		return err
	}
	a.started.Store(true)
	up()
	var group errgroup.Group
	for _, work := range a.workers {
		group.Go(func() error { return work(ctx) })
	}
	return group.Wait()
}

// head returns the position of the head of the log, or 0 if that cannot be read.
func (a *app) head(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	head, err := eventstore.New(a.pools[0]).Head(ctx)
	if err != nil {
		return 0
	}
	return head
}

// logRole logs whether the service's role in the database could change the log, and whether there is a connection pooler.
func (a *app) logRole(ctx context.Context, cfg config.Config) error {
	role, err := postgres.RoleOf(ctx, a.pools[0])
	if err != nil {
		return err
	}
	if !role.Separate {
		cfg.Log.InfoContext(ctx, "roles are not separate: the service's role could change the log; see docs/roles.md",
			"role", role.Name)
	}
	conn, err := a.pools[0].Acquire(ctx)
	if err != nil {
		return fmt.Errorf("look for a pooler: %w", err)
	}
	defer conn.Release()
	pooled, err := postgres.Pooled(ctx, conn.Conn())
	if pooled {
		cfg.Log.InfoContext(ctx, "the database is behind a connection pooler: the service's role sets the timeouts; see docs/operations.md")
	}
	return err
}

func (a *app) closePools() {
	for _, p := range a.pools {
		p.Close()
	}
}

// pool opens a pool. The given options take precedence over those of every pool.
func (a *app) pool(ctx context.Context, url, name string, size int32, statementTimeout time.Duration, options ...postgres.Option,
) (*pgxpool.Pool, error) {
	options = append(append(a.tracing.poolOptions(), options...), postgres.WithApplicationName(name), postgres.WithMaxConns(size),
		postgres.WithStatementTimeout(statementTimeout), postgres.WithIdleInTransactionTimeout(30*time.Second),
		postgres.WithGenericPlans())
	p, err := postgres.NewPool(ctx, url, options...)
	if err != nil {
		return nil, err
	}
	a.pools = append(a.pools, p)
	return p, nil
}

// authenticator returns the configured authenticator, or nil without authentication. It adds the authenticator's background
// work to the workers.
func (a *app) authenticator(ctx context.Context, cfg *config.Config, d *Database) (httpapi.Authenticator, error) {
	switch cfg.Auth {
	case config.AuthKeys:
		pool, err := a.pool(ctx, d.url, "passbook auth", 2, 2*time.Second)
		if err != nil {
			return nil, err
		}
		pools := []*pgxpool.Pool{pool}
		if d.queryURL != d.url { // queries work while the primary is unavailable, so keys must too
			if pool, err = a.pool(ctx, d.queryURL, "passbook auth", 2, 2*time.Second); err != nil {
				return nil, err
			}
			pools = append(pools, pool)
		}
		keys, err := auth.NewKeys(auth.KeysConfig{
			Databases: pools, Unavailable: postgres.IsUnavailable, Ready: a.started.Load, Logger: cfg.Log,
		})
		if err != nil {
			return nil, err
		}
		a.workers = append(a.workers, keys.Run)
		return keys, nil
	case config.AuthOIDC:
		issuer, err := auth.NewIssuer(auth.IssuerConfig{
			URL: cfg.Issuer, Audience: cfg.Audience, Logger: cfg.Log, ScopeClaim: cfg.ScopeClaim, ScopesOf: cfg.ScopesOf,
		})
		if err != nil {
			return nil, err
		}
		a.workers = append(a.workers, issuer.Run)
		return issuer, nil
	}
	return nil, nil
}

// decode adapts eventjson.Decode to the engine, which does not know account.Event.
func decode(eventType string, schemaVersion int, payload []byte) (any, error) {
	return eventjson.Decode(eventType, schemaVersion, payload)
}
