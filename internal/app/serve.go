package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"passbook/internal/config"
	"passbook/internal/postgres"
)

// Limits and intervals of the process.
const (
	// retryStart is how long to wait between attempts to reach a database that is unavailable at the start.
	retryStart = 500 * time.Millisecond
	// retryMigrated is how long to wait between checks of a schema that its owner must migrate.
	retryMigrated = 2 * time.Second
	// receiveBuffer is how many bytes of bodies may arrive over an HTTP/2 connection before they are read.
	receiveBuffer = 128 << 10
)

// Serve runs the service until ctx ends, and then stops it: it accepts no new requests and finishes those in flight, then drains
// the command queue and releases the leases concurrently, closes the pools, and stops the private PostgreSQL.
func Serve(ctx context.Context, cfg config.Config, stdout io.Writer) (err error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with PASSBOOK_ADDR", err)
	}
	defer func() { _ = listener.Close() }()
	secure, err := secured(listener, &cfg)
	if err != nil {
		return err
	}

	database, err := OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Stop()) }()

	app, err := newApp(ctx, cfg, database)
	if err != nil {
		return err
	}
	server := newHTTPServer(app.handler, cfg.Log)
	shutdown := newGracefulShutdown(server, &app.stopping)
	// The services outlive ctx, so that requests in flight can finish.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, failed := errgroup.WithContext(ctx)
	cfg.Log.Info("listening", "addr", listener.Addr().String())
	group.Go(func() error {
		if err := server.Serve(secure); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		return app.run(work, cfg, database, func() { announce(cfg, listener.Addr(), database, app.head(work), stdout) })
	})
	group.Go(func() error { return database.restartPrivate(failed, cfg) })
	group.Go(func() error {
		<-failed.Done()
		cfg.Log.Info("stopping")
		drain, cancel := context.WithTimeout(work, cfg.ShutdownDelay+cfg.ShutdownTimeout)
		defer cancel()
		defer stopWork()
		return shutdown.run(drain, cfg.ShutdownDelay, app.endStreams, cfg.Log)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	cfg.Log.Info("stopped")
	return nil
}

// newHTTPServer limits what a connection may use. Long requests (streams of events, POST /commands) extend their own deadlines.
// The read timeout is longer than any wait for a position, because it would end the wait too.
func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       45 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    96 << 10, // well above the longest URL that the handler takes
		// Bodies that were received but not read yet take memory: by default 1 MiB for each connection.
		HTTP2:    &http.HTTP2Config{MaxReceiveBufferPerConnection: receiveBuffer, MaxReceiveBufferPerStream: receiveBuffer},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// secured returns the listener, with TLS if it is configured.
func secured(l net.Listener, cfg *config.Config) (net.Listener, error) {
	if cfg.TLSCert == "" {
		return l, nil
	}
	certificates, err := loadCertificates(cfg.TLSCert, cfg.TLSKey, cfg.Log)
	if err != nil {
		return nil, err
	}
	settings := certificates.config()
	settings.NextProtos = []string{"h2", "http/1.1"}
	return tls.NewListener(l, settings), nil
}

// migrateWhenUp migrates the database and calls next. It waits for an unavailable database, and for the owner if this role
// cannot migrate. It calls waiting with a description of what it waits for, which any caller may read.
func migrateWhenUp(ctx context.Context, cfg config.Config, url string, waiting func(string), next func(context.Context) error) error {
	for {
		err := postgres.Migrate(ctx, url, cfg.Log)
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
			waiting("cannot be checked while the database is unavailable")
		default:
			return err
		}
		cfg.Log.Warn("the database is not ready; retrying", "database", config.Redact(url), "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// announce prints where the service listens, and commands to try, whose account id and position work when pasted.
func announce(cfg config.Config, addr net.Addr, d *Database, head int64, stdout io.Writer) {
	base := baseURL(&cfg, addr)
	cfg.Log.Info("serving", "addr", addr.String(), "console", base+"/console", "database", config.Redact(d.url), "version", cfg.Version)
	if tcp, ok := addr.(*net.TCPAddr); ok && cfg.Auth == config.AuthNone && len(cfg.Hosts) == 0 && !tcp.IP.IsLoopback() {
		cfg.Log.Warn("requests to names other than localhost, 127.0.0.1 and [::1] are refused; allow others with PASSBOOK_HOSTS")
	}
	if cfg.DatabaseURL != "" || cfg.FollowURL != "" {
		return
	}
	id, authorization := uuid.New(), ""
	if cfg.Auth != config.AuthNone {
		authorization = ` -H "Authorization: Bearer $PASSBOOK_KEY"`
	}
	fmt.Fprintf(stdout, `
Passbook is running. Its data is in %[3]s.

  console  %[1]s/console
  API      %[1]s/docs

Three lines to try:

  curl -s%[4]s %[1]s/accounts -H 'Content-Type: application/json' -d '{"account_id":"%[2]s","owner":"Ada","currency":"EUR"}'
  curl -s%[4]s %[1]s/deposits -H 'Content-Type: application/json' -d '{"account_id":"%[2]s","amount":"12.34"}'
  curl -s%[4]s '%[1]s/accounts/%[2]s/balance?min_position=%[5]d'

Ctrl-C stops it; the data stays.
`, base, id, cfg.DataDir, authorization, head+2)
}

// baseURL returns the URL of a server on this machine that listens on addr, which may mean every interface.
func baseURL(cfg *config.Config, addr net.Addr) string {
	scheme, at := "http", addr.String()
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		loopback := "127.0.0.1"
		if tcp.IP.To4() == nil {
			loopback = "::1"
		}
		at = net.JoinHostPort(loopback, strconv.Itoa(tcp.Port))
	}
	return scheme + "://" + at + cfg.BasePath
}
