package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"passbook/client"
	"passbook/internal/config"
)

// asking makes run a command that asks the running server, with the flags --server and --json. run prints to out, as JSON if
// asJSON.
func asking(
	settings *config.Settings, cmd *cobra.Command,
	run func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error,
) *cobra.Command {
	server := serverFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON, one object a line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFlags(cmd); err != nil {
			return err
		}
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		c, url, err := newClient(*server, &cfg, client.WithRetryFor(retryFor))
		if err != nil {
			return err
		}
		defer c.Close()
		return explain(cmd.Context(), run(cmd.Context(), c, args, *asJSON, cmd.OutOrStdout()), url)
	}
	return cmd
}

// checkFlags refuses flags of the command that are given without a value: most likely a shell variable is not set, and without
// the flag the command would do something else.
func checkFlags(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		switch version, _ := strconv.ParseInt(value, 10, 64); {
		case err != nil, cmd.InheritedFlags().Lookup(f.Name) != nil:
		case value == "":
			err = config.Usage(fmt.Errorf("--%s: the value is empty", f.Name))
		case f.Name == "if-version" && version < 1:
			err = config.Usage(errors.New("--if-version: at least 1"))
		}
	})
	return err
}

// labelsFlag adds a flag of keys with texts.
func labelsFlag(cmd *cobra.Command, name, usage string) *map[string]string {
	labels := cmd.Flags().StringToString(name, nil, usage)
	cmd.Flags().Lookup(name).DefValue = "" // help would show []
	return labels
}

// exactly checks the number of arguments; what names those that are needed.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return config.Usage(fmt.Errorf("the arguments are %s", what))
		}
		return nil
	}
}

// idOf reads an argument that is an id.
func idOf(what, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err == nil && id == uuid.Nil { // it would stand for none
		return id, config.Usage(fmt.Errorf("%s %s is the nil UUID, which is the id of nothing", what, text))
	}
	if err != nil {
		hint := ""
		if what != "HOLD" && what != "--transfer" {
			hint = "; server accounts finds accounts by the owner's name"
		}
		return id, config.Usage(fmt.Errorf("%s %q is not a UUID%s", what, text, hint))
	}
	return id, nil
}

// moment is a flag that takes a time: RFC 3339, or a date, which is its beginning in UTC.
type moment struct{ time.Time }

// String implements pflag.Value.
func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339Nano)
}

// Set implements pflag.Value.
func (m *moment) Set(text string) (err error) {
	if m.Time, err = time.Parse(time.DateOnly, text); err == nil {
		return nil
	}
	if m.Time, err = time.Parse(time.RFC3339, text); err != nil {
		return errors.New("a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z, is needed")
	}
	return nil
}

// Type implements pflag.Value.
func (m *moment) Type() string { return "time" }

// momentFlag adds a flag that takes a time.
func momentFlag(cmd *cobra.Command, name, usage string) *moment {
	m := new(moment)
	cmd.Flags().Var(m, name, usage)
	return m
}

// bound is a flag that takes a number of at least 1.
type bound int

// String implements pflag.Value.
func (b *bound) String() string { return strconv.Itoa(int(*b)) }

// Set implements pflag.Value.
func (b *bound) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return errors.New("--limit: at least 1")
	}
	*b = bound(n)
	return nil
}

// Type implements pflag.Value.
func (b *bound) Type() string { return "int" }

// limitFlag adds the flag that bounds a list.
func limitFlag(cmd *cobra.Command) *bound {
	limit := bound(100)
	cmd.Flags().Var(&limit, "limit", "list at most this many")
	return &limit
}

// printList prints the first items of a list, as a table or as JSON, and says when there are more.
func printList[T any](list iter.Seq2[T, error], limit bound, asJSON bool, out io.Writer, headers string, row func(*T) []string) error {
	encoder, w := json.NewEncoder(out), newTable(headers)
	var n bound
	for item, err := range list {
		if err != nil {
			return err
		}
		if n++; n > limit {
			break
		}
		if !asJSON {
			w.add(row(&item)...)
		} else if err := encoder.Encode(item); err != nil {
			return err
		}
	}
	if asJSON {
		return nil
	}
	if err := w.print(out); err != nil {
		return err
	}
	if n > limit {
		_, err := fmt.Fprintf(out, "There are more; --limit %d lists more of them.\n", 10*limit)
		return err
	}
	return nil
}

func newAccounts(settings *config.Settings) *cobra.Command {
	cmd := newAccountsList(settings, &cobra.Command{
		Use:   "accounts [NAME]",
		Short: "List, find, open, show, suspend and close accounts",
		Long: `Accounts lists the accounts of the running server, the newest first. With NAME it lists those whose owner's name contains
it, whatever its case and accents. Where NAME is also a subcommand, say server accounts list NAME.`,
		Example: `  server accounts
  server accounts muller
  server accounts --status suspended --json
  server accounts open "Ada Lovelace" EUR`,
	})
	cmd.AddCommand(
		newAccountsList(settings, &cobra.Command{
			Use: "list [NAME]", Short: "List accounts, or find them by a part of the owner's name",
			Example: `  server accounts list --currency EUR --status active`,
		}),
		newAccountsOpen(settings),
		newAccountsShow(settings),
		newAccountsStatus(settings, "suspend", "Block the movement of money on an account", "suspended", (*client.Client).Suspend),
		newAccountsStatus(settings, "reactivate", "End the suspension of an account", "reactivated", (*client.Client).Reactivate),
		newAccountsStatus(settings, "close", "Close an account with a zero balance, for good", "closed", (*client.Client).CloseAccount),
	)
	return cmd
}

// newAccountsList completes a command that lists accounts.
func newAccountsList(settings *config.Settings, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	status := choiceFlag(cmd, "status", "only accounts of this status: active, suspended or closed", "active", "suspended", "closed")
	currency := cmd.Flags().String("currency", "", "only accounts in this currency")
	limit := limitFlag(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		params := client.ListAccountsParams{
			Sort: "-opened_at", Status: client.AccountStatus(status.value), Currency: *currency, OwnerContains: strings.Join(args, " "),
		}
		return printList(c.Accounts(ctx, params), *limit, asJSON, out, "ACCOUNT\tOWNER\t>BALANCE\t>HELD\t>AVAILABLE\tCURRENCY\tSTATUS",
			func(a *client.Account) []string {
				return []string{
					a.AccountID.String(), oneLine(a.Owner), a.Balance, a.Held, a.Available, a.Currency, string(a.Status),
				}
			})
	})
}

func newTransactions(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transactions",
		Short: "Find movements of money across all accounts",
		Long: `Transactions lists the movements of money on the accounts of the running server that all flags select, the newest first.

POSITION is where the movement is in the log; server reverse takes it back.`,
		Example: `  server transactions --reference rent --from 2026-01-01
  server transactions --min 1000 --currency EUR
  server transactions --metadata invoice=17 --json`,
		Args: noArgs,
	}
	var params client.SearchTransactionsParams
	flags := cmd.Flags()
	flags.StringVar(&params.Reference, "reference", "", "only movements with exactly this reference")
	transfer := flags.String("transfer", "", "only the movements of the transfer with this id, and of its reversals")
	flags.StringToStringVar(&params.Metadata, "metadata", nil, "only movements with this metadata, `key=value`")
	flags.StringVar(&params.MinAmount, "min", "", "only movements of at least this amount")
	flags.StringVar(&params.MaxAmount, "max", "", "only movements of at most this amount")
	flags.StringVar(&params.Currency, "currency", "", "only movements in this currency")
	from := momentFlag(cmd, "from", "only movements since this time")
	to := momentFlag(cmd, "to", "only movements before this time")
	limit := limitFlag(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, _ []string, asJSON bool, out io.Writer) error {
		params := params
		params.From, params.To = from.Time, to.Time
		if *transfer != "" {
			var err error
			if params.TransferID, err = idOf("--transfer", *transfer); err != nil {
				return err
			}
		}
		return printList(c.Movements(ctx, params), *limit, asJSON, out,
			">POSITION\tTIME (UTC)\tACCOUNT\tKIND\t>AMOUNT\tCURRENCY\t>REVERSED\tREFERENCE", func(t *client.Transaction) []string {
				return []string{
					fmt.Sprint(t.Position), t.RecordedAt.UTC().Format(time.DateTime), t.AccountID.String(), string(t.Kind), t.Amount, t.Currency,
					t.ReversedAmount, textOf(t.Reference),
				}
			})
	})
}

func newHolds(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "holds ACCOUNT", Short: "List the holds of an account", Args: exactly(1, "ACCOUNT"),
		Example: `  server holds 0198c1f0-0000-7000-8000-000000000001 --status open`,
	}
	status := choiceFlag(cmd, "status", "only holds of this status: open, captured, released or expired", "open", "captured", "released", "expired")
	limit := limitFlag(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		holds := c.Holds(ctx, id, client.ListHoldsParams{Status: client.HoldStatus(status.value)})
		return printList(holds, *limit, asJSON, out, "HOLD\t>AMOUNT\t>CAPTURED\tCURRENCY\tSTATUS\tEXPIRES (UTC)\tREFERENCE", func(h *client.Hold) []string {
			expires := "never"
			if h.ExpiresAt != nil {
				expires = h.ExpiresAt.UTC().Format(time.DateTime)
			}
			return []string{h.HoldID.String(), h.Amount, h.CapturedAmount, h.Currency, string(h.Status), expires, textOf(h.Reference)}
		})
	})
}

func newStatement(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "statement ACCOUNT",
		Short: "Print the statement of an account over a period",
		Long: `Statement prints the opening balance, the movements and the closing balance of a period, with the positions of the log that
they stand at. A statement of the past never changes. Times are in UTC.`,
		Example: `  server statement 0198c1f0-0000-7000-8000-000000000001 --from 2026-01-01 --to 2026-02-01
  server statement 0198c1f0-0000-7000-8000-000000000001 --csv > january.csv`,
		Args: exactly(1, "ACCOUNT"),
	}
	from := momentFlag(cmd, "from", "the beginning, inclusive (default: the opening of the account)")
	to := momentFlag(cmd, "to", "the end, exclusive (default: now)")
	asCSV := cmd.Flags().Bool("csv", false, "print CSV, for a spreadsheet")
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		switch {
		case *asCSV && asJSON:
			return config.Usage(errors.New("--csv and --json exclude each other"))
		case *asCSV:
			return c.AccountStatementCSV(ctx, id, from.Time, to.Time, out)
		}
		s, err := c.AccountStatement(ctx, id, from.Time, to.Time)
		switch {
		case err != nil:
			return err
		case asJSON:
			return json.NewEncoder(out).Encode(s)
		}
		return printStatement(s, out)
	})
}

func printStatement(s *client.AccountStatement, out io.Writer) error {
	told := &errWriter{w: out}
	begins := "its opening"
	if s.From != nil {
		begins = s.From.UTC().Format(time.DateTime)
	}
	fmt.Fprintf(told, "Account %s of %s, from %s to %s UTC\n\n", s.AccountID, oneLine(s.Owner), begins, s.To.UTC().Format(time.DateTime))
	w := newTable(">POSITION\tTIME (UTC)\tKIND\t>AMOUNT\t>BALANCE\tREFERENCE")
	w.add(strconv.FormatInt(s.FromPosition, 10), "", "opening balance", "", s.OpeningBalance, s.Currency)
	for i := range s.Transactions {
		t := &s.Transactions[i]
		w.add(strconv.FormatInt(t.Position, 10), t.RecordedAt.UTC().Format(time.DateTime), string(t.Kind), t.Amount, t.Balance, textOf(t.Reference))
	}
	w.add(strconv.FormatInt(s.ToPosition, 10), "", "closing balance", "", s.ClosingBalance, s.Currency)
	if err := w.print(told); err != nil {
		return err
	}
	return told.err
}

// textOf is a text that may be null, on one line.
func textOf(text *string) string {
	if text == nil {
		return ""
	}
	return oneLine(*text)
}

// oneLine keeps the text of a caller from breaking a table, or from controlling the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}
