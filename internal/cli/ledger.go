package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

// sending are the flags of commands that change an account.
type sending struct {
	key    *string
	dryRun *bool
}

func sendingFlags(cmd *cobra.Command) sending {
	return sending{
		key:    cmd.Flags().String("idempotency-key", "", "a name for what you do: sent again with it, it is applied once"),
		dryRun: cmd.Flags().Bool("dry-run", false, "show what it would do, and do nothing"),
	}
}

// options are the flags as options of a command; a dry run stores what it would do in into.
func (s sending) options(into *client.DryRunResult) []client.CommandOption {
	var opts []client.CommandOption
	if *s.key != "" {
		opts = append(opts, client.Key(*s.key))
	}
	if *s.dryRun {
		opts = append(opts, client.DryRun(into))
	}
	return opts
}

// print prints a receipt, or what a dry run would do.
func (s sending) print(out io.Writer, asJSON bool, receipt any, line string, would *client.DryRunResult) error {
	switch {
	case asJSON && *s.dryRun:
		return json.NewEncoder(out).Encode(would)
	case asJSON:
		return json.NewEncoder(out).Encode(receipt)
	case !*s.dryRun:
		_, err := fmt.Fprintln(out, line)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "It would append, and has not:")
	for i := range would.Events {
		e := &would.Events[i]
		data, err := json.Marshal(e.Data)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", e.AccountID, e.Type, data)
	}
	fmt.Fprintf(w, "The account %s would have a balance of %s %s, and %s available.\n", would.AccountID, would.Balance, would.Currency, would.Available)
	return w.Flush()
}

func newHold(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hold ACCOUNT AMOUNT",
		Short:   "Reserve money of an account",
		Long:    `Hold reserves money: it lowers what is available, and not the balance, until it is captured, released, or expires.`,
		Example: `  server hold 0198c1f0-0000-7000-8000-000000000001 60.00 --reference "table for six" --expires-at 2026-12-31T18:00:00Z`,
		Args:    exactly(2, "ACCOUNT and AMOUNT"),
	}
	reference := cmd.Flags().String("reference", "", "what it is for")
	expires := momentFlag(cmd, "expires-at", "when it ends by itself (default: never)")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		hold := client.PlaceHold{Amount: args[1], Reference: *reference, ExpiresAt: expires.Time}
		var would client.DryRunResult
		receipt, err := c.PlaceHold(ctx, id, hold, send.options(&would)...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string { return fmt.Sprintf("hold %s, position %d", receipt.HoldID, receipt.Position) }), &would)
	})
}

func newCapture(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "capture ACCOUNT HOLD",
		Short: "Take the money of a hold, and release the rest",
		Args:  exactly(2, "ACCOUNT and HOLD"),
	}
	amount := cmd.Flags().String("amount", "", "how much of it (default: all)")
	to := cmd.Flags().String("to", "", "the account that receives it (default: it is paid out)")
	reference := cmd.Flags().String("reference", "", "what it is for")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		hold, err := idOf("HOLD", args[1])
		if err != nil {
			return err
		}
		capture := client.CaptureHold{Amount: *amount, Reference: *reference}
		if *to != "" {
			if capture.ToAccountID, err = idOf("--to", *to); err != nil {
				return err
			}
		}
		var would client.DryRunResult
		receipt, err := c.CaptureHold(ctx, id, hold, capture, send.options(&would)...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string {
			return fmt.Sprintf("captured %s, released %s, position %d", receipt.CapturedAmount, receipt.ReleasedAmount, receipt.Position)
		}), &would)
	})
}

func newRelease(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "release ACCOUNT HOLD", Short: "End a hold; its money is available again", Args: exactly(2, "ACCOUNT and HOLD"),
	}
	reason := cmd.Flags().String("reason", "", "why")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		hold, err := idOf("HOLD", args[1])
		if err != nil {
			return err
		}
		var would client.DryRunResult
		receipt, err := c.ReleaseHold(ctx, id, hold, *reason, send.options(&would)...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string { return fmt.Sprintf("released, position %d", receipt.Position) }), &would)
	})
}

func newReverse(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reverse POSITION",
		Short: "Take back a deposit, a withdrawal or a transfer, or a part of it",
		Long: `Reverse moves back the money of the movement at a position of the log; server transactions and server statement show
positions. Of a transfer, either side may be named, and both are reversed together.

What the recipient has spent is refused. With --force it is taken all the same, and the account may then be below its limit.`,
		Example: `  server reverse 4711 --dry-run
  server reverse 4711 --amount 5.50 --reason "one dish was cold"`,
		Args: exactly(1, "POSITION"),
	}
	amount := cmd.Flags().String("amount", "", "how much of it (default: all that is left)")
	reason := cmd.Flags().String("reason", "", "why")
	force := cmd.Flags().Bool("force", false, "take the money also from an account on which it is not available")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		position, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return config.Usage(fmt.Errorf("POSITION %q is not a number", args[0]))
		}
		var would client.DryRunResult
		receipt, err := c.Reverse(ctx, client.Reverse{Position: position, Amount: *amount, Reason: *reason, Force: *force}, send.options(&would)...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string {
			return fmt.Sprintf("reversed %s, position %d", receipt.Amount, receipt.Position)
		}), &would)
	})
}

func newChange(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "change ACCOUNT",
		Short:   "Change the owner, the overdraft limit or the metadata of an account",
		Example: `  server change 0198c1f0-0000-7000-8000-000000000001 --overdraft-limit 500 --set branch=Bonn --unset manager`,
		Args:    exactly(1, "ACCOUNT"),
	}
	owner := cmd.Flags().String("owner", "", "the owner from now on")
	limit := cmd.Flags().String("overdraft-limit", "", "how far below zero the balance may go from now on")
	set := labelsFlag(cmd, "set", "set metadata, `key=value`")
	unset := cmd.Flags().StringSlice("unset", nil, "delete metadata, by `key`")
	version := cmd.Flags().Int64("if-version", 0, "only if the account is at this version")
	send := sendingFlags(cmd)
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("ACCOUNT", args[0])
		if err != nil {
			return err
		}
		change := client.ChangeAccount{Owner: *owner, OverdraftLimit: *limit}
		if len(*set)+len(*unset) > 0 {
			change.Metadata = make(client.MetadataPatch)
			for key, value := range *set {
				change.Metadata[key] = &value
			}
			for _, key := range *unset {
				change.Metadata[key] = nil
			}
		}
		var would client.DryRunResult
		opts := send.options(&would)
		if *version > 0 {
			opts = append(opts, client.IfVersion(*version))
		}
		receipt, err := c.ChangeAccount(ctx, id, change, opts...)
		if err != nil {
			return err
		}
		return send.print(out, asJSON, receipt, lineOf(receipt, func() string { return fmt.Sprintf("version %d, position %d", receipt.Version, receipt.Position) }), &would)
	})
}

// lineOf is the line about a receipt, if there is one: a dry run has none.
func lineOf[T any](receipt *T, line func() string) string {
	if receipt == nil {
		return ""
	}
	return line()
}
