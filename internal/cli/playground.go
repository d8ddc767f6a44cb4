package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"passbook/internal/app"
	"passbook/internal/cli/playground"
	"passbook/internal/config"
	"passbook/internal/copylog"
	"passbook/internal/eventstore"
	"passbook/internal/postgres"
)

// servePlayground writes a history into an empty private PostgreSQL, and serves it.
func servePlayground(ctx context.Context, settings *config.Settings, cfg config.Config, seed uint64, out io.Writer) error {
	if !settings.DataDirGiven() {
		cfg.DataDir += "-playground"
	}
	// Nothing is to be written if the address is taken.
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with PASSBOOK_ADDR", err)
	}
	if err := listener.Close(); err != nil {
		return err
	}
	history, summary, err := playground.History(seed, time.Now())
	if err != nil {
		return err
	}
	err = seedDatabase(ctx, cfg, history)
	if errors.Is(err, errNotEmpty) {
		return fmt.Errorf("the database in %[1]s is not empty, and nothing was changed: server --data-dir %[1]s serves it; name another directory with --data-dir, or remove that one", cfg.DataDir)
	}
	if err != nil {
		return err
	}
	address, err := reachableAddr(cfg.Addr)
	if err != nil {
		return err
	}
	const day = "2 January 2006"
	fmt.Fprintf(out, `
The playground has %d events of %d accounts in %d currencies, from %s to %s.

Look around in the console at the address below, or in another terminal:

  server accounts --server %[7]s
  server statement %[6]s --server %[7]s
  server tail --server %[7]s
`, len(history), summary.Accounts, summary.Currencies, summary.From.Format(day), summary.To.Format(day), summary.Example, "http://"+address)
	return app.Serve(ctx, cfg, out)
}

// errNotEmpty means that there are events in the log already.
var errNotEmpty = errors.New("the log is not empty")

// seedDatabase writes a history into the private PostgreSQL. It fails with errNotEmpty if there is one.
func seedDatabase(ctx context.Context, cfg config.Config, history []eventstore.Event) (err error) {
	d, err := app.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := postgres.Migrate(ctx, d.OwnerURL, cfg.Log); err != nil {
		return err
	}
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook playground"), postgres.WithMaxConns(1))
	if err != nil {
		return err
	}
	defer pool.Close()
	head, err := copylog.Insert(ctx, pool, eventstore.Head{}, history)
	if err == nil && head.EventID != history[len(history)-1].EventID {
		err = errNotEmpty
	}
	return err
}
