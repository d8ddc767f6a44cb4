package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

// Bounds of the process.
const (
	// stopTimeout is how long the private PostgreSQL is given to stop.
	stopTimeout = 15 * time.Second
	// retryStart is how long to wait between tries to reach a database that is away at the start.
	retryStart = 500 * time.Millisecond
	// retryMigrated is how long to wait between looks at a schema that somebody else has to bring up to date.
	retryMigrated = 2 * time.Second
)

// serve runs the service until ctx ends, and then stops it in order: no new requests, those in flight finished, the
// command queue drained, the projector's leases given up, the pools closed, the private PostgreSQL stopped.
func serve(ctx context.Context, cfg config, stdout io.Writer) (err error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with PASSBOOK_ADDR", err)
	}
	defer func() { _ = listener.Close() }()
	secure, err := secured(listener, &cfg)
	if err != nil {
		return err
	}

	database, err := openDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.stop()) }()

	app, err := newApp(ctx, cfg, database)
	if err != nil {
		return err
	}
	server := newHTTPServer(app.handler, cfg.log)
	leave := newFarewell(server, &app.stopping)
	// The services outlive ctx, so that requests in flight can finish.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, failed := errgroup.WithContext(ctx)
	cfg.log.Info("listening", "addr", listener.Addr().String())
	group.Go(func() error {
		if err := server.Serve(secure); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		return app.run(work, cfg, database, func() { announce(cfg, listener.Addr(), database, app.head(work), stdout) })
	})
	group.Go(func() error { return database.keepUp(failed, cfg) })
	group.Go(func() error {
		<-failed.Done()
		cfg.log.Info("stopping")
		drain, cancel := context.WithTimeout(work, cfg.shutdownDelay+cfg.shutdownTimeout)
		defer cancel()
		defer stopWork()
		return leave.take(drain, cfg.shutdownDelay, app.endStreams, cfg.log)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	cfg.log.Info("stopped")
	return nil
}

// newHTTPServer bounds what a connection may take. Requests that go on for long (streams of events, POST /commands) move
// their deadlines themselves; the time for reading is longer than any wait for a position, since it would end that too.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       45 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// secured is the listener with TLS, if that is set up.
func secured(l net.Listener, cfg *config) (net.Listener, error) {
	if cfg.tlsCert == "" {
		return l, nil
	}
	certificates, err := loadCertificates(cfg.tlsCert, cfg.tlsKey, cfg.log)
	if err != nil {
		return nil, err
	}
	settings := certificates.config()
	settings.NextProtos = []string{"h2", "http/1.1"}
	return tls.NewListener(l, settings), nil
}

// database is where the service keeps its data: a private PostgreSQL, or the one that DATABASE_URL names.
type database struct {
	url, queryURL string
	// directURL is url without a pooler in between, ownerURL that as a role that may change the schema, where it is known.
	directURL, ownerURL string
	private             *localpg.Server // nil with DATABASE_URL
}

func openDatabase(ctx context.Context, cfg config) (*database, error) {
	if cfg.databaseURL != "" {
		direct := cmp.Or(cfg.directDatabaseURL, cfg.databaseURL)
		return &database{
			url: cfg.databaseURL, queryURL: cmp.Or(cfg.queryDatabaseURL, cfg.databaseURL), directURL: direct, ownerURL: direct,
		}, nil
	}
	private, err := localpg.Start(ctx, privateOptions(cfg))
	if err != nil {
		return nil, err
	}
	url := private.ServiceURL()
	return &database{url: url, queryURL: url, directURL: url, ownerURL: private.URL(), private: private}, nil
}

func privateOptions(cfg config) localpg.Options {
	return localpg.Options{DataDir: cfg.dataDir, BinDir: cfg.pgBin, RuntimeDir: cfg.runtimeDir, Logger: cfg.log}
}

func (d *database) stop() error {
	if d.private == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return d.private.Stop(ctx)
}

// instance names this process in the projector's leases. A private PostgreSQL has one Passbook at a time, guarded by
// its lock file; under one name it takes its leases up again at once, whatever became of the process before.
func (d *database) instance() string {
	if d.private != nil {
		return "private"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// migrateWhenUp migrates the database, waiting for one that is away, and for its owner to migrate it where this role
// cannot, and then calls next. waiting is told what it waits for, in words for anyone who can reach the port.
func migrateWhenUp(ctx context.Context, cfg config, url string, waiting func(string), next func(context.Context) error) error {
	for {
		err := postgres.Migrate(ctx, url, cfg.log)
		if _, never := errors.AsType[*postgres.SessionError](err); never {
			return err
		}
		if err == nil {
			err = next(ctx)
		}
		wait := retryStart
		switch older, ok := errors.AsType[*postgres.OlderDatabaseError](err); {
		case ok:
			waiting(fmt.Sprintf("is at version %d and has to be at %d: run server migrate as its owner", older.Database, older.Binary))
			wait = retryMigrated
		case postgres.IsUnavailable(err):
			waiting("cannot be checked while the database does not answer")
		default:
			return err
		}
		cfg.log.Warn("waiting for the database", "database", redact(url), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// announce says on stdout where the service is and what to try, with an account id made for the occasion and a position behind
// the head of the log, so that the lines work as they stand.
func announce(cfg config, addr net.Addr, d *database, head int64, stdout io.Writer) {
	cfg.log.Info("serving", "addr", addr.String(), "database", redact(d.url), "version", version)
	if tcp, ok := addr.(*net.TCPAddr); ok && cfg.auth == authNone && len(cfg.hosts) == 0 && !tcp.IP.IsLoopback() {
		cfg.log.Warn("only requests to localhost, 127.0.0.1 and [::1] are answered; name others in PASSBOOK_HOSTS")
	}
	if cfg.databaseURL != "" {
		return
	}
	base, id, let := "http://"+addr.String(), uuid.New(), ""
	if cfg.tlsCert != "" {
		base = "https://" + addr.String()
	}
	if cfg.auth != authNone {
		let = ` -H "Authorization: Bearer $PASSBOOK_KEY"`
	}
	fmt.Fprintf(stdout, `
Passbook answers on %[1]s (the API: %[1]s/docs). Its data is in %[3]s.
Three lines to try:

  curl -s%[4]s %[1]s/accounts -H 'Content-Type: application/json' -d '{"account_id":"%[2]s","owner":"Ada","currency":"EUR"}'
  curl -s%[4]s %[1]s/deposits -H 'Content-Type: application/json' -d '{"account_id":"%[2]s","amount":"12.34"}'
  curl -s%[4]s '%[1]s/accounts/%[2]s/balance?min_position=%[5]d'

Ctrl-C stops it; the data stays.
`, base, id, cfg.dataDir, let, head+2)
}

func migrate(ctx context.Context, cfg config) (err error) {
	d, err := openDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	return postgres.Migrate(ctx, d.ownerURL, cfg.log)
}

// healthcheck asks the server that listens on PASSBOOK_ADDR whether it is ready. It is what a container runtime calls.
func healthcheck(ctx context.Context, cfg *config) error {
	base, c, err := ownServer(cfg)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return fmt.Errorf("not ready: %s", reason)
	}
	return nil
}
