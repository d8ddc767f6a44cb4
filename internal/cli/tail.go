package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/account/eventjson"
	"passbook/internal/config"
)

func newTail(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow the log: print each event as it is recorded",
		Long: `Tail prints the events that the running server records from now on, or from a position, until Ctrl-C, which ends it
with 0. When the connection breaks, or the server restarts, it continues where it was: no event is missed or repeated.

A line has the position, the time in UTC, the account, the type, and what the event says.`,
		Example: `  server tail
  server tail --after 0 --type MoneyDeposited          # all deposits there ever were, and those to come
  server tail --account 0198c1f0-0000-7000-8000-000000000001 --json | jq .data`,
		Args: noArgs,
	}
	after := cmd.Flags().Int64("after", client.FromNow, "begin after this position; 0 is the beginning of the log (default: now)")
	cmd.Flags().Lookup("after").DefValue = "0" // not shown: the usage says it
	eventType := cmd.Flags().String("type", "", "only events of this type, such as MoneyDeposited")
	complete(cmd, "type", eventjson.EventTypes()...)
	account := cmd.Flags().String("account", "", "only events of this account")
	server := serverFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON, one CloudEvent a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := checkFlags(cmd); err != nil {
			return err
		}
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		filter := client.EventFilter{Type: client.EventType(*eventType)}
		if *account != "" {
			if filter.Account, err = idOf("--account", *account); err != nil {
				return err
			}
		}
		if *after < 0 && cmd.Flags().Changed("after") {
			return config.Usage(errors.New("--after: at least 0"))
		}
		if err := serves(cmd.Context(), *server, &cfg); err != nil {
			return err
		}
		c, url, err := newClient(*server, &cfg, client.WithRetryFor(followRetryFor))
		if err != nil {
			return err
		}
		defer c.Close()
		show := showEvent
		if *asJSON {
			show = func(e *client.CloudEvent, out io.Writer) error { return json.NewEncoder(out).Encode(e) }
		}
		last, err := tail(cmd.Context(), c, *after, filter, func(e *client.CloudEvent) error { return show(e, cmd.OutOrStdout()) })
		if cmd.Context().Err() == nil {
			return explain(cmd.Context(), err, url)
		}
		if last > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "server tail --after %d continues from here\n", last)
		}
		return nil
	}
	return cmd
}

// serves reports why a server does not return events, if it does not. It waits less than tail does for one that is restarted:
// there may be none.
func serves(ctx context.Context, server string, cfg *config.Config) error {
	c, url, err := newClient(server, cfg, client.WithRetryFor(retryFor))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, err := range c.Events(ctx, 0, client.EventFilter{}) {
		return explain(ctx, err, url)
	}
	return nil
}

// tail shows events until ctx ends or something fails, and returns the position of the last.
func tail(
	ctx context.Context, c *client.Client, after int64, filter client.EventFilter, show func(*client.CloudEvent) error,
) (last int64, err error) {
	for e, err := range c.Follow(ctx, after, filter) {
		if err == nil {
			err = show(&e)
		}
		if err != nil {
			return last, err
		}
		last = int64(e.Position)
	}
	return last, nil
}

// showEvent prints an event on a line.
func showEvent(e *client.CloudEvent, out io.Writer) error {
	_, err := fmt.Fprintf(out, "%d  %s  %s  %-16s  %s\n", int64(e.Position), e.Time.UTC().Format(time.DateTime), e.Subject, e.Type, dataLine(e.Data))
	return err
}

// dataLine returns what an event says as name=value pairs, with the amount first.
func dataLine(data json.RawMessage) string {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return oneLine(string(data))
	}
	names := slices.SortedFunc(maps.Keys(fields), func(a, b string) int {
		return cmp.Or(cmp.Compare(dataOrder(a), dataOrder(b)), cmp.Compare(a, b))
	})
	pairs := make([]string, len(names))
	for i, name := range names {
		pairs[i] = name + "=" + oneLine(string(fields[name]))
	}
	return strings.Join(pairs, " ")
}

func dataOrder(name string) int {
	switch name {
	case "amount":
		return 0
	case "currency":
		return 1
	}
	return 2
}
