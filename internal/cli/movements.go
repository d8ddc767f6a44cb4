package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

// movement are the flags of commands that move money.
type movement struct {
	sending
	reference, currency *string
	metadata            *map[string]string
	version             *int64
}

func movementFlags(cmd *cobra.Command) movement {
	return movement{
		sending:   sendingFlags(cmd),
		reference: cmd.Flags().String("reference", "", "what it is for"),
		currency:  cmd.Flags().String("currency", "", "refuse an account in another currency than this"),
		metadata:  labelsFlag(cmd, "metadata", "labels of your own, `key=value`"),
		version:   cmd.Flags().Int64("if-version", 0, "only if the account is at this version"),
	}
}

func (m movement) options(would *client.DryRunResult) []client.CommandOption {
	opts := m.sending.options(would)
	if *m.version > 0 {
		opts = append(opts, client.IfVersion(*m.version))
	}
	return opts
}

func newDeposit(settings *config.Settings) *cobra.Command {
	return newMove(settings, &cobra.Command{
		Use: "deposit ACCOUNT AMOUNT", Short: "Put money into an account",
		Example: `  server deposit 0198c1f0-0000-7000-8000-000000000001 12.34 --reference "invoice 17"
  server deposit 0198c1f0-0000-7000-8000-000000000001 12.34 --idempotency-key invoice-17   # once, however often it is sent`,
	}, "deposited", "to", (*client.Client).Deposit)
}

func newWithdraw(settings *config.Settings) *cobra.Command {
	return newMove(settings, &cobra.Command{
		Use: "withdraw ACCOUNT AMOUNT", Short: "Take money out of an account",
		Example: `  server withdraw 0198c1f0-0000-7000-8000-000000000001 5 --dry-run`,
	}, "withdrew", "from", (*client.Client).Withdraw)
}

// newMove completes the command deposit or withdraw, which send does; verb says what was done, and word stands before the owner.
func newMove(
	settings *config.Settings, cmd *cobra.Command, verb, word string,
	send func(*client.Client, context.Context, client.MoneyMovement, ...client.CommandOption) (*client.Receipt, error),
) *cobra.Command {
	cmd.Args = exactly(2, "ACCOUNT and AMOUNT")
	flags := movementFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		move := client.MoneyMovement{AccountID: id, Amount: args[1], Currency: *flags.currency, Reference: *flags.reference, Metadata: *flags.metadata}
		var would client.DryRunResult
		receipt, err := send(c, ctx, move, flags.options(&would)...)
		if err != nil {
			return err
		}
		return flags.print(out, asJSON, receipt, lineOf(receipt, func() string {
			account := tell(ctx, c, id, receipt.Position)
			return fmt.Sprintf("%s %s%s, position %d%s", verb, account.sum(args[1]), account.of(word), receipt.Position, account.now())
		}), &would)
	})
}

func newTransfer(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "transfer FROM TO AMOUNT", Short: "Move money from one account to another",
		Long:    `Transfer moves money between two accounts of one currency, in both or in neither.`,
		Example: `  server transfer 0198c1f0-0000-7000-8000-000000000001 0198c1f0-0000-7000-8000-000000000002 12.34 --reference rent`,
		Args:    exactly(3, "FROM, TO and AMOUNT"),
	}
	flags := movementFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		from, err := idOf("FROM", args[0])
		if err != nil {
			return err
		}
		to, err := idOf("TO", args[1])
		if err != nil {
			return err
		}
		transfer := client.Transfer{
			FromAccountID: from, ToAccountID: to, Amount: args[2], Currency: *flags.currency, Reference: *flags.reference, Metadata: *flags.metadata,
		}
		var would client.DryRunResult
		receipt, err := c.Transfer(ctx, transfer, flags.options(&would)...)
		if err != nil {
			return err
		}
		return flags.print(out, asJSON, receipt, lineOf(receipt, func() string {
			sender, recipient := tell(ctx, c, from, receipt.Position), tell(ctx, c, to, receipt.Position)
			return fmt.Sprintf("transferred %s%s%s, transfer %s, position %d%s",
				sender.sum(args[2]), sender.of("from"), recipient.of("to"), receipt.TransferID, receipt.Position, sender.now())
		}), &would)
	})
}

func newAccountsOpen(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "open OWNER CURRENCY", Short: "Open an account", Args: exactly(2, "OWNER and CURRENCY"),
		Example: `  server accounts open "Ada Lovelace" EUR --deposit 100 --overdraft-limit 50
  account=$(server accounts open Ada EUR --json | jq -r .account_id)`,
	}
	id := cmd.Flags().String("id", "", "the account's id, a UUID (default: the server makes one)")
	subject := cmd.Flags().String("subject", "", "the id of the person whose account it is, a UUID (default: the account's id)")
	limit := cmd.Flags().String("overdraft-limit", "", "how far below zero the balance may go (default: not at all)")
	deposit := cmd.Flags().String("deposit", "", "deposit this at once")
	metadata := labelsFlag(cmd, "metadata", "labels of your own, `key=value`")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) (err error) {
		open := client.OpenAccount{Owner: args[0], Currency: args[1], OverdraftLimit: *limit, InitialDeposit: *deposit, Metadata: *metadata}
		if *id != "" {
			if open.AccountID, err = idOf("--id", *id); err != nil {
				return err
			}
		}
		if *subject != "" {
			if open.SubjectID, err = idOf("--subject", *subject); err != nil {
				return err
			}
		}
		var would client.DryRunResult
		receipt, err := c.Open(ctx, open, send.options(&would)...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string {
			return fmt.Sprintf("opened account %s, position %d", receipt.AccountID, receipt.Position)
		}), &would)
	})
}

// newAccountsStatus returns the command accounts suspend, reactivate or close, which send does; verb says what was done.
func newAccountsStatus(
	settings *config.Settings, name, short, verb string,
	send func(*client.Client, context.Context, uuid.UUID, string, ...client.CommandOption) (*client.Receipt, error),
) *cobra.Command {
	cmd := &cobra.Command{Use: name + " ACCOUNT", Short: short, Args: exactly(1, "ACCOUNT")}
	reason := cmd.Flags().String("reason", "", "why")
	flags := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		var would client.DryRunResult
		receipt, err := send(c, ctx, id, *reason, flags.options(&would)...)
		if err != nil {
			return err
		}
		return flags.print(out, asJSON, receipt, lineOf(receipt, func() string { return fmt.Sprintf("%s, position %d", verb, receipt.Position) }), &would)
	})
}

func newAccountsShow(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ACCOUNT", Short: "Show an account", Args: exactly(1, "ACCOUNT"),
		Example: `  server accounts show 0198c1f0-0000-7000-8000-000000000001
  server accounts show 0198c1f0-0000-7000-8000-000000000001 --json | jq -r .balance`,
	}
	position := cmd.Flags().Int64("min-position", 0, "wait until queries see this position, such as that of a deposit")
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		var opts []client.QueryOption
		if *position > 0 {
			opts = append(opts, client.AtLeast(*position))
		}
		a, err := c.Account(ctx, id, opts...)
		switch {
		case err != nil:
			return err
		case asJSON:
			return json.NewEncoder(out).Encode(a)
		}
		return printAccount(a, out)
	})
}

func printAccount(a *client.Account, out io.Writer) error {
	money := func(amount string) string { return amount + " " + a.Currency }
	w := newTable("Account\t" + a.AccountID.String())
	w.add("Owner", oneLine(a.Owner))
	w.add("Status", string(a.Status))
	w.add("Balance", money(a.Balance))
	w.add("Held", money(a.Held))
	w.add("Available", money(a.Available))
	w.add("Overdraft limit", money(a.OverdraftLimit))
	w.add("Deposited", money(a.Deposited))
	w.add("Withdrawn", money(a.Withdrawn))
	w.add("Opened", a.OpenedAt.UTC().Format(time.DateTime)+" UTC")
	if a.ClosedAt != nil {
		w.add("Closed", a.ClosedAt.UTC().Format(time.DateTime)+" UTC")
	}
	w.add("Version", fmt.Sprintf("%d, position %d", a.Version, a.Position))
	for _, key := range slices.Sorted(maps.Keys(a.Metadata)) {
		w.add("Metadata "+oneLine(key), oneLine(a.Metadata[key]))
	}
	return w.print(out)
}
