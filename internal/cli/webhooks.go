package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

func newWebhooks(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "Have events sent to URLs: create, watch, change, pause and resume subscriptions",
		Long: `Webhooks manages the subscriptions of the running server. Each has the events of the log sent to a URL, in order and at least
once, signed by the rules of Standard Webhooks. docs/webhooks.md shows how a receiver verifies them.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noArgs(cmd, args)
			}
			return config.Usage(errors.New("say what to do with webhooks: create, list, show, update, pause, resume, rotate, deliveries or delete; server webhooks --help explains"))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(
		newWebhookCreate(settings), newWebhookList(settings), newWebhookShow(settings), newWebhookUpdate(settings), newWebhookPause(settings),
		newWebhookResume(settings),
		newWebhookRotate(settings), newWebhookDeliveries(settings), newWebhookDelete(settings),
	)
	return cmd
}

// onWebhook makes run a command about one webhook.
func onWebhook(
	settings *config.Settings, cmd *cobra.Command,
	run func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error,
) *cobra.Command {
	cmd.Args = exactly(1, "WEBHOOK")
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		id, err := idOf("WEBHOOK", args[0])
		if err != nil {
			return err
		}
		return run(ctx, c, id, asJSON, out)
	})
}

func newWebhookCreate(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create URL",
		Short: "Have events sent to a URL; the secret is on the last line of standard output",
		Example: `  server webhooks create https://example.com/passbook --type MoneyDeposited --type MoneyWithdrawn
  server webhooks create https://example.com/passbook --after 0   # the whole log`,
		Args: exactly(1, "URL"),
	}
	filter := filterFlags(cmd)
	after := cmd.Flags().Int64("after", 0, "the position to begin after (default: the end of the log)")
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, args []string, asJSON bool, out io.Writer) error {
		w := client.CreateWebhook{URL: args[0]}
		var err error
		if w.Types, w.Accounts, err = filter(); err != nil {
			return err
		}
		if cmd.Flags().Changed("after") {
			w.After = after
		}
		made, err := c.CreateWebhook(ctx, w)
		return printSecret(out, asJSON, made, err)
	})
}

// filterFlags adds the flags that say which events a webhook is sent, and returns a function that returns their values.
func filterFlags(cmd *cobra.Command) func() ([]client.EventType, []uuid.UUID, error) {
	types := cmd.Flags().StringSlice("type", nil, "only events of this type; may be given several times")
	accounts := cmd.Flags().StringSlice("account", nil, "only events of this account; may be given several times")
	return func() (chosen []client.EventType, ids []uuid.UUID, err error) {
		for _, one := range *types {
			chosen = append(chosen, client.EventType(one))
		}
		for _, one := range *accounts {
			id, err := idOf("--account", one)
			if err != nil {
				return nil, nil, err
			}
			ids = append(ids, id)
		}
		return chosen, ids, nil
	}
}

// printSecret prints the id and the secret of a webhook, which cannot be read again.
func printSecret(out io.Writer, asJSON bool, w *client.WebhookWithSecret, err error) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return json.NewEncoder(out).Encode(w)
	}
	_, err = fmt.Fprintf(out, "webhook %s\nsecret, which is not shown again:\n%s\n", w.ID, w.Secret)
	return err
}

func newWebhookList(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the webhooks", Args: noArgs}
	return asking(settings, cmd, func(ctx context.Context, c *client.Client, _ []string, asJSON bool, out io.Writer) error {
		all, err := c.Webhooks(ctx)
		if err != nil {
			return err
		}
		list := func(yield func(client.Webhook, error) bool) {
			for i := range all {
				if !yield(all[i], nil) {
					return
				}
			}
		}
		return printList(list, bound(len(all)), asJSON, out, "WEBHOOK\tSTATE\tPOSITION\tLAG\tATTEMPTS\tURL\tERROR", func(w *client.Webhook) []string {
			return []string{
				w.ID.String(), string(w.State), strconv.FormatInt(w.Position, 10), strconv.FormatInt(w.Lag, 10), strconv.Itoa(w.Attempts),
				oneLine(w.URL), oneLine(orNone(w.LastError)),
			}
		})
	})
}

func orNone(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

// printWebhook prints the state of a webhook.
func printWebhook(out io.Writer, asJSON bool, w *client.Webhook, err error) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return json.NewEncoder(out).Encode(w)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	all := func(list []string) string {
		if len(list) == 0 {
			return "all"
		}
		return strings.Join(list, ", ")
	}
	accounts := make([]string, len(w.Accounts))
	for i, id := range w.Accounts {
		accounts[i] = id.String()
	}
	row("webhook", w.ID.String())
	row("url", oneLine(w.URL))
	row("types", all(w.Types))
	row("accounts", all(accounts))
	row("state", string(w.State))
	row("position", fmt.Sprintf("%d, %d behind", w.Position, w.Lag))
	row("attempts", strconv.Itoa(w.Attempts))
	row("error", oneLine(orNone(w.LastError)))
	for _, one := range []struct {
		name string
		at   *time.Time
	}{
		{"failing since", w.FailingSince},
		{"next attempt", w.NextAttemptAt},
		{"last delivered", w.LastDeliveredAt},
		{"old secret until", w.PreviousSecretUntil},
		{"created", &w.CreatedAt},
	} {
		if one.at != nil {
			row(one.name, one.at.Format(time.RFC3339))
		}
	}
	return table.Flush()
}

func newWebhookShow(settings *config.Settings) *cobra.Command {
	return onWebhook(settings, &cobra.Command{Use: "show WEBHOOK", Short: "Show the state of a webhook"},
		func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
			w, err := c.Webhook(ctx, id)
			return printWebhook(out, asJSON, w, err)
		})
}

func newWebhookUpdate(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "update WEBHOOK", Short: "Change where a webhook's events are sent, or which",
		Long: `Update changes only what is given. --type and --account replace the types and the accounts that the webhook had; --all-types and
--all-accounts have it sent the events of all.`,
		Example: `  server webhooks update 0198c1f0-0000-7000-8000-000000000001 --url https://example.com/new
  server webhooks update 0198c1f0-0000-7000-8000-000000000001 --type MoneyDeposited --all-accounts`,
	}
	url := cmd.Flags().String("url", "", "send events to this URL")
	filter := filterFlags(cmd)
	cmd.Flags().Bool("all-types", false, "send events of all types")
	cmd.Flags().Bool("all-accounts", false, "send events of all accounts")
	given := cmd.Flags().Changed
	return onWebhook(settings, cmd, func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
		types, accounts, err := filter()
		switch {
		case err != nil:
			return err
		case given("type") && given("all-types"), given("account") && given("all-accounts"):
			return config.Usage(errors.New("--type and --all-types, and --account and --all-accounts, exclude each other"))
		}
		change := client.ChangeWebhook{URL: *url}
		if given("type") || given("all-types") {
			change.Types = &types
		}
		if given("account") || given("all-accounts") {
			change.Accounts = &accounts
		}
		if change == (client.ChangeWebhook{}) {
			return config.Usage(errors.New("say what to change: --url, --type, --account, --all-types or --all-accounts"))
		}
		w, err := c.ChangeWebhook(ctx, id, change)
		return printWebhook(out, asJSON, w, err)
	})
}

func newWebhookPause(settings *config.Settings) *cobra.Command {
	return onWebhook(settings, &cobra.Command{Use: "pause WEBHOOK", Short: "Send nothing until it is resumed"},
		func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
			w, err := c.ChangeWebhook(ctx, id, client.ChangeWebhook{State: client.ChangeWebhookStatePaused})
			return printWebhook(out, asJSON, w, err)
		})
}

func newWebhookResume(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume WEBHOOK", Short: "Go on sending, where it stopped or after a position",
		Long: "Resume ends the states paused, parked and disabled. A webhook that is active tries its next event now.",
	}
	after := cmd.Flags().Int64("after", 0, "the position to go on after (default: where it stopped)")
	return onWebhook(settings, cmd, func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
		var how client.ResumeWebhook
		if cmd.Flags().Changed("after") {
			how.After = after
		}
		w, err := c.ResumeWebhook(ctx, id, how)
		return printWebhook(out, asJSON, w, err)
	})
}

func newWebhookRotate(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate WEBHOOK", Short: "Give a webhook a new secret, on the last line of standard output",
		Long: "Messages are signed with both secrets until the overlap is over, so that the receiver can change in between.",
	}
	overlap := cmd.Flags().Duration("overlap", 24*time.Hour, "how long the old secret signs too, up to 168h")
	return onWebhook(settings, cmd, func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
		w, err := c.RotateWebhookSecret(ctx, id, client.RotateSecret{OverlapSeconds: new(int64(*overlap / time.Second))})
		return printSecret(out, asJSON, w, err)
	})
}

func newWebhookDeliveries(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{Use: "deliveries WEBHOOK", Short: "List the last attempts to deliver, the last one first"}
	limit := limitFlag(cmd)
	return onWebhook(settings, cmd, func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
		return printList(c.Deliveries(ctx, id), *limit, asJSON, out, "TIME\tPOSITION\tTYPE\tATTEMPT\tOUTCOME\tSTATUS\tTOOK\tERROR",
			func(d *client.Delivery) []string {
				status := "-"
				if d.Status != nil {
					status = strconv.Itoa(*d.Status)
				}
				return []string{
					d.At.Format(time.RFC3339), strconv.FormatInt(d.Position, 10), d.Type, strconv.Itoa(d.Attempt), string(d.Outcome), status,
					(time.Duration(d.LatencyMs) * time.Millisecond).String(), oneLine(orNone(d.Error)),
				}
			})
	})
}

func newWebhookDelete(settings *config.Settings) *cobra.Command {
	return onWebhook(settings, &cobra.Command{Use: "delete WEBHOOK", Short: "Delete a webhook and its log of deliveries"},
		func(ctx context.Context, c *client.Client, id uuid.UUID, asJSON bool, out io.Writer) error {
			if err := c.DeleteWebhook(ctx, id); err != nil || asJSON {
				return err
			}
			_, err := fmt.Fprintln(out, "deleted", id)
			return err
		})
}
