package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"passbook/internal/httpapi"
)

func newStatus(settings *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the projections of the running server stand",
		Long: `Status asks the running server how far each projection has followed the log.

  POSITION   the last event of the log that the read model has applied
  LAG        how many events it has yet to apply, and the age of the oldest of them
  RATE       events applied a second, over the last 10 seconds
  GENERATION which of its tables' row sets reads are answered from; a replay builds the next one
  REPLAY     the running replay, or the last

A halted projection tries again by itself; what stopped it is told below the table.
It exits 0 when the server has answered, whatever it said.`,
		Example: `  server status
  server status --watch
  server status --json | jq '.projections[] | {id, lag}'`,
		Args: noArgs,
	}
	server := serverFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the server's answer, one JSON object")
	watch := cmd.Flags().Bool("watch", false, "go on until interrupted, once a second")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		c, err := newClient(*server, &cfg)
		if err != nil {
			return err
		}
		defer c.http.CloseIdleConnections()
		if !*watch {
			return status(cmd.Context(), c, *asJSON, "", cmd.OutOrStdout())
		}
		return watchStatus(cmd.Context(), c, *asJSON, cmd.OutOrStdout())
	}
	return cmd
}

// watchStatus prints the status once a second until ctx ends, on a terminal always in the same place.
func watchStatus(ctx context.Context, c *client, asJSON bool, out io.Writer) error {
	before := ""
	if isTerminal(out) && !asJSON {
		before = "\x1b[H\x1b[2J" // to the top left, and clear
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := status(ctx, c, asJSON, before, out); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func status(ctx context.Context, c *client, asJSON bool, before string, out io.Writer) error {
	var list httpapi.ProjectionList
	body, err := c.call(ctx, http.MethodGet, "/projections", &list)
	if err != nil {
		return err
	}
	if asJSON {
		_, err := fmt.Fprintf(out, "%s\n", body)
		return err //nolint:wrapcheck // of the terminal
	}
	if _, err := io.WriteString(out, before); err != nil {
		return err //nolint:wrapcheck // of the terminal
	}
	return printStatus(&list, out)
}

func printStatus(list *httpapi.ProjectionList, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROJECTION\tSTATE\tPOSITION\tHEAD\tLAG\tRATE\tGENERATION\tREPLAY")
	for i := range list.Projections {
		p := &list.Projections[i]
		lag := strconv.FormatInt(p.Lag, 10)
		if p.Lag > 0 {
			lag += fmt.Sprintf(" (%.1f s)", p.LagSeconds)
		}
		replay := "-"
		if r := p.Replay; r != nil {
			replay = string(r.State)
			if r.State == "running" {
				replay = fmt.Sprintf("%s of %d", percent(r.Processed, r.Total), r.Total)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%.0f/s\t%d\t%s\n", p.ID, p.State, p.Position, p.Head, lag, p.Rate, p.Generation, replay)
	}
	if err := w.Flush(); err != nil {
		return err //nolint:wrapcheck // of the terminal
	}
	for i := range list.Projections {
		p := &list.Projections[i]
		if p.Error == nil {
			continue
		}
		at := ""
		if p.ErrorPosition != nil {
			at = fmt.Sprintf(" at the event at position %d", *p.ErrorPosition)
		}
		if _, err := fmt.Fprintf(out, "\n%s failed%s: %s\n", p.ID, at, *p.Error); err != nil {
			return err //nolint:wrapcheck // of the terminal
		}
	}
	return nil
}

// percent is how much of the total is done, never rounded up to all of it.
func percent(done, total int64) string {
	if done >= total {
		return "100%"
	}
	return strconv.FormatInt(int64(float64(done)/float64(total)*100), 10) + "%"
}
