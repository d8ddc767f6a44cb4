package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"passbook/internal/app"
	"passbook/internal/config"
	"passbook/internal/merkle"
	"passbook/internal/postgres"
	"passbook/internal/verify"
)

func newVerify(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute every read model from the log and report differences",
		Long: `Verify checks the log's invariants, and compares every read model with the log, recomputed in SQL: positions and
versions without gaps, no overdraft, transfers paired, money conserved; balances, statements and totals equal to the fold
of the events up to the projection's checkpoint. It names each row that differs, with its values and the expected ones.

It reads the database itself (DATABASE_URL, or the private PostgreSQL in PASSBOOK_DATA_DIR, whether a server runs on it
or not), in one snapshot, and writes nothing: it may run while the service is live, or on a standby. It reads the whole log
a few times, which takes minutes for tens of millions of events.

If the log is signed, it checks its hashes and its checkpoint too, and with PASSBOOK_SIGNING_KEY_FILE the signature; server audit
does that without a server, and with the directory of an archive.

It reports as "not checked" what it does not know: the rows of a projection of your own, until internal/verify has a
check for it. If the first events are in an archive, it checks those that the log has, and names the checks that need all of
them.

With --against, it compares the log instead with that of another running Passbook, such as a follower's with its primary's: every
event that neither has in an archive, up to the end of the shorter log. It prints the position and a hash of all events up to it, or the first event that
differs. PASSBOOK_KEY is the key for the other server (scope events:read).

It exits 0 if nothing differs, and 1 if something does or if it could not check.`,
		Example: `  server verify
  server verify --json | jq '.checks[] | select(.differences > 0)'
  DATABASE_URL=postgres://standby/passbook server verify
  server verify --data-dir /var/lib/passbook-follower --against https://bank.example`,
		Args: noArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	against := cmd.Flags().String("against", "", "URL of a running Passbook to compare the log with, event by event")
	limit := cmd.Flags().Int("limit", 20, "how many differences to name for each check; all are counted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if *limit < 1 {
			return config.Usage(errors.New("--limit: at least 1"))
		}
		if *against != "" {
			return compareLogs(cmd.Context(), cfg, *against, cmd.OutOrStdout())
		}
		return verifyBooks(cmd.Context(), cfg, *limit, *asJSON, cmd.OutOrStdout(), progressOut(cmd))
	}
	return cmd
}

func verifyBooks(ctx context.Context, cfg config.Config, limit int, asJSON bool, out, shown io.Writer) (err error) {
	d, err := app.AttachDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook verify"), postgres.WithMaxConns(1))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	bar, checked := workBar(shown, "verify", int64(verify.Checks())), int64(0)
	report, err := verify.Run(ctx, pool, limit, func(c verify.Check) {
		bar.Describe("verify " + c.Name)
		_ = bar.Set64(checked) // the bar is only for show
		checked++
	})
	_ = bar.Finish()
	if err == nil {
		err = verifySigned(ctx, pool, cfg.Keys, limit, &report)
	}
	if err != nil {
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(report)
	} else {
		err = printReport(&report, out)
	}
	if err == nil && !report.OK {
		var n int64
		for i := range report.Checks {
			n += report.Checks[i].Differences
		}
		err = fmt.Errorf("verify: differences: %d", n)
	}
	return err
}

// verifySigned adds a check of the signed tree over the log, if there is one.
func verifySigned(ctx context.Context, pool *pgxpool.Pool, keys merkle.Keys, limit int, report *verify.Report) error {
	if signed, _, err := merkle.NewProver(pool).Signed(ctx); err != nil || signed == "" {
		if errors.Is(err, merkle.ErrNoCheckpoint) {
			return nil
		}
		return err
	}
	open, about := keys.Open, "events, stored hashes, checkpoint and its signature agree (I9)"
	if keys.Name == "" {
		open = func(signed []byte) (merkle.Checkpoint, error) { return merkle.ParseCheckpoint(string(signed)) }
		about = "events, stored hashes and checkpoint agree (I9); not its signature, without PASSBOOK_SIGNING_KEY_FILE"
	}
	if report.First > 1 {
		report.NeedArchive = append(report.NeedArchive, "signed log")
		return nil
	}
	found, err := merkle.Check(ctx, merkle.Database{Pool: pool}, open, nil)
	if err != nil {
		return fmt.Errorf("verify: signed log: %w", err)
	}
	check := verify.Check{Name: "signed log", About: about, Differences: found.Wrong}
	for _, f := range found.Findings[:min(limit, len(found.Findings))] {
		check.Told = append(check.Told, verify.Difference{Item: fmt.Sprintf("position %d", f.Position), Field: f.Problem, Has: f.Detail, Want: "as it was signed"})
	}
	report.Checks, report.OK = append(report.Checks, check), report.OK && found.OK
	return nil
}

func printReport(r *verify.Report, out io.Writer) error {
	w := &errWriter{w: out}
	if r.First == 1 {
		fmt.Fprintf(w, "%d events in the log\n", r.Head)
	} else {
		fmt.Fprintf(w, "the log has the events from position %d to %d; those up to %d are in the archive\n", r.First, r.Head, r.First-1)
	}
	for i := range r.Projections {
		p := &r.Projections[i]
		parked := ""
		if p.Parked > 0 {
			parked = fmt.Sprintf(", %d accounts parked", p.Parked)
		}
		fmt.Fprintf(w, "%s at position %d, generation %d%s\n", p.ID, p.Position, p.Generation, parked)
	}
	fmt.Fprintln(w)
	for i := range r.Checks {
		c := &r.Checks[i]
		if c.Differences == 0 {
			fmt.Fprintf(w, "ok    %-21s %s\n", c.Name, c.About)
			continue
		}
		fmt.Fprintf(w, "DIFF  %-21s %s: %d\n", c.Name, c.About, c.Differences)
		for _, d := range c.Told {
			fmt.Fprintf(w, "      %s: %s is %s, should be %s\n", d.Item, d.Field, d.Has, d.Want)
		}
		if more := c.Differences - int64(len(c.Told)); more > 0 {
			fmt.Fprintf(w, "      and %d more\n", more)
		}
	}
	for _, id := range r.NotChecked {
		fmt.Fprintf(w, "----  %-21s not checked: no check knows the rows of this projection\n", id)
	}
	for _, name := range r.NeedArchive {
		fmt.Fprintf(w, "----  %-21s not checked: it needs the events up to position %d; attach them with server archive attach\n", name, r.First-1)
	}
	if r.Sealed > 0 {
		fmt.Fprintf(w, "----  the text of %d events is sealed: not compared with the read models\n", r.Sealed)
	}
	if r.OK {
		fmt.Fprintf(w, "\nnothing differs (%.1f s)\n", r.Seconds)
	}
	return w.err
}

// errWriter keeps the first error, so that a page of output is checked once.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	var n int
	n, w.err = w.w.Write(p)
	return n, w.err
}
