package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"passbook/internal/config"
	"passbook/internal/localpg"
)

const (
	// stopTimeout is how long the private PostgreSQL may take to stop.
	stopTimeout = 15 * time.Second
	// restartFirst and restartMost are the shortest and longest pause between attempts to restart the private PostgreSQL.
	restartFirst = 100 * time.Millisecond
	restartMost  = 10 * time.Second
)

// Database is where the service keeps its data: a private PostgreSQL, or the one that DATABASE_URL names.
type Database struct {
	url, queryURL string
	// directURL is url without a pooler in between. OwnerURL is directURL with a role that may change the schema, if there is
	// such a role.
	directURL, OwnerURL string
	private             *localpg.Server // nil with DATABASE_URL
}

// OpenDatabase starts the private PostgreSQL, unless the settings name a database. The caller stops it.
func OpenDatabase(ctx context.Context, cfg config.Config) (*Database, error) {
	if cfg.DatabaseURL != "" {
		direct := cmp.Or(cfg.DirectDatabaseURL, cfg.DatabaseURL)
		return &Database{
			url: cfg.DatabaseURL, queryURL: cmp.Or(cfg.QueryDatabaseURL, cfg.DatabaseURL), directURL: direct, OwnerURL: direct,
		}, nil
	}
	private, err := localpg.Start(ctx, PrivateOptions(cfg))
	if err != nil {
		return nil, err
	}
	url := private.ServiceURL()
	return &Database{url: url, queryURL: url, directURL: url, OwnerURL: private.URL(), private: private}, nil
}

// PrivateOptions returns the settings of the private PostgreSQL.
func PrivateOptions(cfg config.Config) localpg.Options {
	return localpg.Options{DataDir: cfg.DataDir, BinDir: cfg.PGBin, RuntimeDir: cfg.RuntimeDir, Logger: cfg.Log}
}

// Stop stops the private PostgreSQL if there is one, and waits for it.
func (d *Database) Stop() error {
	if d.private == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return d.private.Stop(ctx)
}

// instance names this process in the projector's leases. The lock file of a private PostgreSQL admits one Passbook at a time, so a
// fixed name is enough, and lets the next process take over the leases immediately, however the previous one ended.
func (d *Database) instance() string {
	if d.private != nil {
		return "private"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// AttachDatabase is OpenDatabase for a command that may run while a server does: it uses a private PostgreSQL that is
// already running, and creates none if there is no data.
func AttachDatabase(ctx context.Context, cfg config.Config) (*Database, error) {
	if cfg.DatabaseURL != "" {
		return OpenDatabase(ctx, cfg)
	}
	url, err := localpg.Attach(ctx, cfg.DataDir)
	switch {
	case err == nil:
		return &Database{url: url, queryURL: url, directURL: url, OwnerURL: url}, nil
	case errors.Is(err, localpg.ErrNotRunning):
		return OpenDatabase(ctx, cfg)
	case errors.Is(err, localpg.ErrNoData):
		return nil, fmt.Errorf("%w; set DATABASE_URL or PASSBOOK_DATA_DIR", err)
	}
	return nil, err
}

// restartPrivate restarts a private PostgreSQL whenever it ends, until ctx ends. Its address stays, so the pools reconnect.
// An error means that another process now uses its data.
func (d *Database) restartPrivate(ctx context.Context, cfg config.Config) error {
	for d.private != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-d.private.Done():
		}
		cfg.Log.ErrorContext(ctx, "the private PostgreSQL has ended; restarting it", "error", d.private.Err())
		_ = d.private.Stop(ctx) // it has ended; this releases its directory
		for wait := restartFirst; ; wait = min(2*wait, restartMost) {
			private, err := localpg.Start(ctx, PrivateOptions(cfg))
			if err == nil {
				d.private = private
				cfg.Log.InfoContext(ctx, "the private PostgreSQL is running again")
				break
			}
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // stopped
			case errors.Is(err, localpg.ErrInUse):
				return fmt.Errorf("the private PostgreSQL has ended: %w", err)
			}
			cfg.Log.ErrorContext(ctx, "restarting the private PostgreSQL failed; retrying", "error", err)
			sleep(ctx, wait)
		}
	}
	return nil
}
