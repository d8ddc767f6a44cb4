package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"passbook/client"
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
			return config.Usage(errors.New("say what to do with subjects: erase; server subjects --help explains"))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newSubjectErase(settings))
	return cmd
}

func newSubjectErase(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase SUBJECT",
		Short: "Erase a person, for good",
		Long: `Erase destroys the key of a subject, and with it the text of all accounts that were opened with this subject_id; for an account
without one, SUBJECT is the account's own id. The accounts go on without a name, and their money stays. It cannot be undone. It may be
repeated, also after a failure.`,
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
