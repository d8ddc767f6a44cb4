package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"passbook/internal/app"
	"passbook/internal/archive"
	"passbook/internal/config"
	"passbook/internal/postgres"
)

func newArchive(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Move old partitions of the log to Parquet files, and back",
		Long: `The log is partitioned by ranges of positions. A partition is closed when the log has grown beyond it and every projection
has applied it. Closed partitions never change. They can be exported to files; then they can be detached, which leaves in the log
only what commands still need of them; and attached again, which makes the log whole.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newArchiveExport(settings), newArchiveDetach(settings), newArchiveAttach(settings), newArchiveList(settings))
	return cmd
}

func newArchiveExport(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "export DIR",
		Short: "Write each closed partition of the log to a Parquet file",
		Long: `Export writes each closed partition that is not yet in DIR to a Parquet file with exactly the columns of the table events,
and a JSON manifest with its positions, its first and last event id, the SHA-256 of the file, and one over the rows that the
table can be compared with. A partition is exported once its manifest is there. The log stays as it is.

It may run while servers do, and again after an interruption. It needs a role that may read the log.`,
		Example: `  server archive export /archive
  DATABASE_URL=postgres://standby/passbook server archive export /archive`,
		Args: oneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLog(cmd, settings, func(ctx context.Context, _ config.Config, pool *pgxpool.Pool) error {
				return exportLog(ctx, pool, args[0], cmd.OutOrStdout(), progressOut(cmd))
			})
		},
	}
}

func oneDir(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return config.Usage(errors.New("name one directory"))
	}
	return nil
}

// withLog calls do with a pool of the owner on a database that has this version's schema.
func withLog(cmd *cobra.Command, settings *config.Settings, do func(context.Context, config.Config, *pgxpool.Pool) error) (err error) {
	cfg, err := settings.Load(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	d, err := app.AttachDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook archive"),
		postgres.WithMaxConns(3), postgres.WithIndexLookups())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return err
	}
	return do(ctx, cfg, pool)
}

// archiveProgress returns a Progress that shows a bar for each step, and what ends the last one.
func archiveProgress(shown io.Writer) (archive.Progress, func()) {
	bar := workBar(nil, "", 1)
	var title string
	progress := func(step string, p archive.Partition, done int64) {
		if now := step + " " + p.Name; now != title {
			_ = bar.Finish() // the bar is only for show
			title, bar = now, workBar(shown, now, p.Last-p.First+1)
		}
		if done%1000 == 0 || done == p.Last-p.First+1 {
			_ = bar.Set64(done)
		}
	}
	return progress, func() { _ = bar.Finish() }
}

func exportLog(ctx context.Context, pool *pgxpool.Pool, dir string, out, shown io.Writer) error {
	progress, stop := archiveProgress(shown)
	written, err := archive.Export(ctx, pool, dir, progress)
	stop()
	for _, m := range written {
		fmt.Fprintf(out, "%s: events %d to %d\n", m.File, m.FirstPosition, m.LastPosition)
	}
	if err == nil && len(written) == 0 {
		fmt.Fprintln(out, "every closed partition is exported already")
	}
	return err
}
