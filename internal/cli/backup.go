package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"passbook/internal/app"
	"passbook/internal/config"
	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

func newBackup(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all data of the private PostgreSQL to a file",
		Long: `Backup writes what the private PostgreSQL in PASSBOOK_DATA_DIR holds to a file, in the custom format of pg_dump: one
consistent snapshot, whether a server runs on it or not. The file appears once it is complete, and then replaces one of the
same name. server restore reads it.

It runs the pg_dump that belongs to the private PostgreSQL. For a database of your own (DATABASE_URL), docs/operations.md has
the commands.`,
		Example: `  server backup passbook.dump
  server backup /backup/passbook-$(date +%F).dump`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := privateOnly(settings, cmd)
			if err != nil {
				return err
			}
			return backup(cmd.Context(), cfg, args[0], cmd.OutOrStdout(), progressOut(cmd))
		},
	}
}

func newRestore(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a private PostgreSQL from a file of backup",
		Long: `Restore makes the private PostgreSQL in PASSBOOK_DATA_DIR and loads the file into it, whole or not at all, then brings
the schema up to date. If there is data already, it fails and changes nothing: name another directory, or move that one
away. No server may run on it.

Afterwards, server verify compares every read model with the log.`,
		Example: `  server restore passbook.dump
  server restore passbook.dump --data-dir /var/lib/passbook-restored`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := privateOnly(settings, cmd)
			if err != nil {
				return err
			}
			return restore(cmd.Context(), cfg, args[0], cmd.OutOrStdout(), progressOut(cmd))
		},
	}
}

func oneFile(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return config.Usage(errors.New("name one file"))
	}
	return nil
}

// privateOnly loads the settings of a command that works only with the private PostgreSQL.
func privateOnly(settings *config.Settings, cmd *cobra.Command) (config.Config, error) {
	cfg, err := settings.Load(cmd.ErrOrStderr())
	if err == nil && cfg.DatabaseURL != "" {
		err = config.Usage(fmt.Errorf("server %s is for the private PostgreSQL, and DATABASE_URL names another; "+
			"docs/operations.md has the commands for backup and restore of that one", cmd.Name()))
	}
	return cfg, err
}

func backup(ctx context.Context, cfg config.Config, path string, out, shown io.Writer) (err error) {
	d, err := app.AttachDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	part := path + ".part"
	file, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // named by who runs the command
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part) }()
	stop := watchBytes(shown, "backup", -1, func() (int64, error) {
		info, err := file.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	})
	err = localpg.Dump(ctx, app.PrivateOptions(cfg), d.OwnerURL, file)
	stop()
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	info, err := os.Stat(part)
	if err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %d bytes; server restore reads it\n", path, info.Size())
	return err
}

func restore(ctx context.Context, cfg config.Config, path string, out, shown io.Writer) (err error) {
	file, err := os.Open(path) //nolint:gosec // named by who runs the command
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	d, err := app.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook restore"), postgres.WithMaxConns(1))
	if err != nil {
		return err
	}
	defer pool.Close()
	var tables int64
	if err := pool.QueryRow(ctx, "select count(*) from pg_tables where schemaname = current_schema()").Scan(&tables); err != nil {
		return fmt.Errorf("look for data: %w", err)
	}
	if tables > 0 {
		return fmt.Errorf("there is a database in %s already, and nothing was changed: name another directory with --data-dir, or move that one away", cfg.DataDir)
	}
	if err := load(ctx, cfg, d.OwnerURL, file, shown); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, d.OwnerURL, cfg.Log); err != nil {
		return err
	}
	var events int64
	if err := pool.QueryRow(ctx, "select coalesce(max(position), 0) from events").Scan(&events); err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	_, err = fmt.Fprintf(out, "the log up to position %d is in %s; server verify compares the read models with them\n", events, cfg.DataDir)
	return err
}

// load restores a file, and shows how much of it is read.
func load(ctx context.Context, cfg config.Config, url string, file *os.File, shown io.Writer) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	// pg_restore reads the same open file, and so moves its offset.
	defer watchBytes(shown, "restore", info.Size(), func() (int64, error) { return file.Seek(0, io.SeekCurrent) })()
	return localpg.Restore(ctx, app.PrivateOptions(cfg), url, file)
}
