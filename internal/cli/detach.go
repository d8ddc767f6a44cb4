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
)

func newArchiveDetach(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detach DIR",
		Short: "Replace exported partitions of the log by what commands still need of them",
		Long: `Detach replaces partitions that are exported to DIR, oldest first, by stubs: the last event of each account, with a snapshot
of the account after it, and the events whose ids commands look up (new accounts, transfers, holds, erasures). Commands are decided as
before. What reads the whole log is refused until the archive is attached again: replays, and reading events before the first one
left.

It compares the file, the manifest and the table with each other first, and detaches a partition only if nothing needs it any more;
otherwise it says what does, and stops. Without --to that is not an error.

The detached table stays in the database, outside the log, until it is dropped: with --drop, also by a later run, which compares it with
the file once more.

It may run while servers do, and again after an interruption. It needs the role that owns the tables, a connection without a pooler, and
the subjects' keys if personal text is sealed.`,
		Example: `  server archive export /archive && server archive detach /archive
  server archive detach /archive --to 50000000 --drop`,
		Args: oneDir,
	}
	to := cmd.Flags().Int64("to", 0, "detach the partitions up to this position, and fail if something needs one; 0 means as many as nothing needs")
	drop := cmd.Flags().Bool("drop", false, "drop the tables once they are detached, which frees the disk")
	forget := cmd.Flags().Bool("forget-previous", false, "give up rollbacks to previous generations of projections that need a partition")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to < 0 {
			return config.Usage(errors.New("--to: a position, or 0"))
		}
		o := archive.Options{To: *to, Drop: *drop, ForgetPrevious: *forget}
		return withLog(cmd, settings, func(ctx context.Context, cfg config.Config, pool *pgxpool.Pool) error {
			return detach(ctx, cfg, pool, args[0], o, cmd.OutOrStdout(), progressOut(cmd))
		})
	}
	return cmd
}

func detach(ctx context.Context, cfg config.Config, pool *pgxpool.Pool, dir string, o archive.Options, out, shown io.Writer) error {
	codec, closeKeys, err := app.LogCodec(ctx, cfg, false)
	if err != nil {
		return err
	}
	defer closeKeys()
	var stop func()
	o.Codec = codec
	o.Progress, stop = archiveProgress(shown)
	done, err := archive.Detach(ctx, pool, dir, o)
	stop()
	for _, d := range done {
		what := fmt.Sprintf("is detached; the log keeps %d of its %d events, in %s", d.Kept, d.Last-d.First+1, size(d.StubSize))
		if d.Kept == 0 {
			what = "was detached before"
		}
		table := fmt.Sprintf("the table %s (%s) stays in the database until a run with --drop", d.Name, size(d.Size))
		if d.Dropped {
			table = fmt.Sprintf("the table %s is dropped, which frees %s", d.Name, size(d.Size))
		}
		fmt.Fprintf(out, "%d to %d %s; %s\n", d.First, d.Last, what, table)
	}
	if kept, ok := errors.AsType[*archive.NeededError](err); ok && o.To == 0 {
		fmt.Fprintln(out, kept)
		return nil
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(out, "there is nothing to detach")
	}
	return err
}

func newArchiveAttach(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach DIR",
		Short: "Make the log whole again from detached tables or files",
		Long: `Attach replaces stubs by the whole partitions, last first: by the detached table if it is still in the database, else by one
that it loads from the file in DIR. It compares the rows with the manifest first. Afterwards the log begins earlier, and the events are
there as they were: for a replay, for an audit, or before an upgrade to a release that says so.

It may run while servers do, and again after an interruption. It needs the role that owns the tables, a connection without a pooler, and
room for the tables.`,
		Example: `  server archive attach /archive
  server archive attach /archive --to 40000001`,
		Args: oneDir,
	}
	to := cmd.Flags().Int64("to", 0, "the position from which on the log shall be whole; 0 means from its first event on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *to < 0 {
			return config.Usage(errors.New("--to: a position, or 0"))
		}
		return withLog(cmd, settings, func(ctx context.Context, _ config.Config, pool *pgxpool.Pool) error {
			return attach(ctx, pool, args[0], *to, cmd.OutOrStdout(), progressOut(cmd))
		})
	}
	return cmd
}

func attach(ctx context.Context, pool *pgxpool.Pool, dir string, to int64, out, shown io.Writer) error {
	progress, stop := archiveProgress(shown)
	done, err := archive.Attach(ctx, pool, dir, archive.Options{To: to, Progress: progress})
	stop()
	for _, a := range done {
		from := "the detached table"
		if a.Loaded {
			from = "the file"
		}
		fmt.Fprintf(out, "%d to %d is attached again, from %s\n", a.First, a.Last, from)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(out, "there is nothing to attach")
	}
	return err
}

func newArchiveList(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "list DIR",
		Short: "List the partitions of the log, and where each is",
		Long: `List shows for each partition whether the log has it whole or as a stub, whether its detached table is still in the
database, whether DIR has its file, and how large they are. It does not read the files: detach and attach compare them.`,
		Example: `  server archive list /archive`,
		Args:    oneDir,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withLog(cmd, settings, func(ctx context.Context, _ config.Config, pool *pgxpool.Pool) error {
				return listPartitions(ctx, pool, args[0], cmd.OutOrStdout())
			})
		},
	}
}

func listPartitions(ctx context.Context, pool *pgxpool.Pool, dir string, out io.Writer) error {
	all, err := archive.List(ctx, pool, dir)
	if err != nil {
		return err
	}
	t := newTable(">FIRST\t>LAST\tLOG\t>SIZE\tDETACHED TABLE\t>SIZE\tFILE\t>SIZE")
	for _, e := range all {
		has, table, tableSize, fileSize := "whole", "", "", ""
		switch {
		case e.Stub:
			has = "stub"
		case !e.Closed:
			has = "open"
		}
		if e.Detached {
			table, tableSize = e.Table(), size(e.DetachedSize)
		}
		if e.File != "" {
			fileSize = size(e.FileSize)
		}
		t.add(fmt.Sprint(e.First), fmt.Sprint(e.Last), has, size(e.Size), table, tableSize, e.File, fileSize)
	}
	return t.print(out)
}

// size returns a number of bytes for people.
func size(bytes int64) string {
	const kilo, mega, giga = 1e3, 1e6, 1e9
	switch b := float64(bytes); {
	case b >= giga:
		return fmt.Sprintf("%.1f GB", b/giga)
	case b >= mega:
		return fmt.Sprintf("%.1f MB", b/mega)
	default:
		return fmt.Sprintf("%.0f kB", b/kilo)
	}
}
