package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

func newAccess(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "List who read what, from the access audit",
		Long: `Access reads the records of the access audit, which a server writes with PASSBOOK_ACCESS_AUDIT. With authentication it needs a key
with the scope audit:read.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noArgs(cmd, args)
			}
			return config.Usage(errors.New("say what to do with the access audit: list; server access list --help explains"))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newAccessList(settings))
	return cmd
}

func newAccessList(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the records of reads, the latest first", Args: noArgs,
		Long: `List prints the records of the access audit. Those of a run of an instance (started, stopped, dropped) and of any account are always
listed, because they may be about the account or the caller that is looked for. A run that was started and not stopped was killed, or
is still going on.`,
		Example: `  server access list --account 0198c1f0-0000-7000-8000-000000000001 --from 2026-01-01
  server access list --caller shop --json`,
	}
	account := cmd.Flags().String("account", "", "only records that concern this account")
	caller := cmd.Flags().String("caller", "", "only records of this caller, by its id or the name of its key")
	from := momentFlag(cmd, "from", "only records since this time")
	to := momentFlag(cmd, "to", "only records before this time")
	limit := limitFlag(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, _ []string, asJSON bool, out io.Writer) error {
		params := client.ListAccessParams{Caller: *caller, From: from.Time, To: to.Time}
		if *account != "" {
			var err error
			if params.AccountID, err = idOf("--account", *account); err != nil {
				return err
			}
		}
		return printList(c.AccessRecords(ctx, params), *limit, asJSON, out, "TIME (UTC)\tKIND\tCALLER\tREQUEST\t>STATUS\t>POSITION\tACCOUNTS\tADDRESS\tDETAIL",
			func(a *client.AccessRecord) []string {
				return []string{
					a.At.UTC().Format(time.DateTime), string(a.Kind), oneLine(strings.TrimSpace(a.Caller + " " + a.CallerName)), oneLine(strings.TrimSpace(a.Method + " " + a.Route)),
					numberOrNone(int64(a.Status)), numberOrNone(a.Position), accountsOf(a), a.Address, a.Detail,
				}
			})
	})
}

func numberOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// accountsOf returns the accounts of a record, the first one if there are more.
func accountsOf(a *client.AccessRecord) string {
	switch n := len(a.Accounts); {
	case a.AnyAccount && a.Route != "":
		return "any"
	case n > 1:
		return fmt.Sprintf("%s and %d more", a.Accounts[0], n-1)
	case n == 1:
		return a.Accounts[0].String()
	}
	return ""
}
