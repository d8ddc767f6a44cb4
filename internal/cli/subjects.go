package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/app"
	"passbook/internal/config"
)

func newSubjects(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "subjects",
		Short: "Erase people from the log and the read models",
		Long: `Subjects are the people whose accounts these are. Their names, references, reasons and metadata are sealed in the log when the
server has PASSBOOK_SUBJECT_MASTER_KEY_FILE. docs/erasure.md says what an erasure reaches and what it does not.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noArgs(cmd, args)
			}
			return config.Usage(errors.New("say what to do with subjects: erase or rewrap; server subjects --help explains"))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newSubjectErase(settings), reading(readsKeys, newSubjectRewrap(settings))[0])
	return cmd
}

func newSubjectRewrap(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "rewrap",
		Short: "Have the subjects' keys wrapped by a new master key",
		Long: `Rewrap works on the database of the subjects' keys: it has every key wrapped by the first master key in
PASSBOOK_SUBJECT_MASTER_KEY_FILE. Before, add the new key as the last line of the file of each instance and restart them, and then make it
the first line and restart them again. When rewrap has finished, the other lines may be removed. docs/erasure.md has the steps.

It may run while servers do, twice at once, and again after an interruption.`,
		Example: `  server subjects rewrap
  server subjects rewrap --subject-master-key-file master.key --subject-keys-database-url postgres://db/passbook_keys`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.Load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			bar := workBar(progressOut(cmd), "wrap keys", 1)
			r, err := app.RewrapKeys(cmd.Context(), cfg, func(done, total int64) {
				bar.ChangeMax64(total)
				_ = bar.Set64(done) // the bar is only for show
			})
			_ = bar.Finish()
			if err != nil {
				return fmt.Errorf("%d keys were wrapped again, then: %w", r.Again, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d keys were wrapped again; all are wrapped by the first line of the file\n", r.Again, r.Total)
			if len(cfg.MasterKeys) > 1 {
				fmt.Fprintln(cmd.OutOrStdout(), "If every instance runs with this first line, the other lines may be removed. Keep them with backups of the keys' database that are older.")
			}
			return nil
		},
	}
}

func newSubjectErase(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase SUBJECT",
		Short: "Erase a person, for good",
		Long: `Erase destroys the key of a subject, and with it the text of all accounts that were opened with this subject_id; for an account
without one, SUBJECT is the account's own id. The accounts go on without a name, and their money stays. It cannot be undone. It may be
repeated, also after a failure. The key needs the scope subjects:erase.`,
		Example: `  server subjects erase 0198c1f0-0000-7000-8000-000000000001
  server subjects erase 0198c1f0-0000-7000-8000-000000000001 --json | jq -r .position`,
		Args: exactly(1, "SUBJECT"),
	}
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("SUBJECT", args[0])
		if err != nil {
			return err
		}
		e, err := c.EraseSubject(ctx, id)
		switch {
		case err != nil:
			return err
		case asJSON:
			return json.NewEncoder(out).Encode(e)
		}
		fmt.Fprintf(out, "erased subject %s, accounts: %d, position %d\n", e.SubjectID, len(e.Accounts), e.Position)
		if e.PlainTextRemains {
			fmt.Fprintln(out, "The log has text of these accounts from before it was sealed. That cannot be erased; docs/erasure.md explains.")
		}
		return nil
	})
}
