package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/config"
)

// shownFailures is how many failures of a projection are printed below the table.
const shownFailures = 5

func newStatus(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running server's projections",
		Long: `Status asks the running server how far each projection has read the log.

A projection keeps one read model, the tables that queries read, up to date: it applies the events of the log in order.
Queries see what has been written once the projection has applied it.

  POSITION   the last event that the read model has applied; HEAD is the last event of the log
  LAG        how many events it has yet to apply, and the age of the oldest of them
  RATE       events applied per second, over the last 10 seconds
  PARKED     accounts stopped at an event that could not be applied; all others continue
  GENERATION the set of rows that queries read; a replay builds the next one
  REPLAY     the running replay, or the last

Events that could not be applied are listed below the table, each with the command that retries it; the server retries
them every 30 seconds too. The exit code is 0 if the server responded, whatever the state.`,
		Example: `  server status
  server status --watch
  server status --json | jq '.projections[] | {id, lag, parked}'
  server status --server https://passbook.example.com`,
		Args: noArgs,
	}
	server := serverFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object: projections, and failures by projection")
	watch := cmd.Flags().Bool("watch", false, "repeat once a second until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		c, url, err := newClient(*server, &cfg, client.WithRetryFor(0))
		if err != nil {
			return err
		}
		defer c.Close()
		if !*watch {
			err = status(cmd.Context(), c, *asJSON, "", cmd.OutOrStdout())
		} else {
			err = watchStatus(cmd.Context(), c, *asJSON, cmd.OutOrStdout())
		}
		return explain(cmd.Context(), err, url)
	}
	return cmd
}

// watchStatus prints the status once a second until ctx ends, on a terminal always in the same place.
func watchStatus(ctx context.Context, c *client.Client, asJSON bool, out io.Writer) error {
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

// standing is the state of the projections, as printed with --json.
type standing struct {
	Projections []client.Projection `json:"projections"`
	// Failures has only the projections that have any.
	Failures map[string][]client.Failure `json:"failures"`
}

func status(ctx context.Context, c *client.Client, asJSON bool, before string, out io.Writer) error {
	list, err := c.Projections(ctx)
	if err != nil {
		return err
	}
	now := standing{Projections: list, Failures: make(map[string][]client.Failure)}
	for i := range list {
		if list[i].Parked == 0 {
			continue
		}
		for failure, err := range c.Failures(ctx, list[i].ID) {
			if err != nil {
				return err
			}
			now.Failures[list[i].ID] = append(now.Failures[list[i].ID], failure)
		}
	}
	if asJSON {
		return json.NewEncoder(out).Encode(now)
	}
	if _, err := io.WriteString(out, before); err != nil {
		return err
	}
	return printStatus(&now, out)
}

func printStatus(now *standing, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROJECTION\tSTATE\tPOSITION\tHEAD\tLAG\tRATE\tPARKED\tGENERATION\tREPLAY")
	for i := range now.Projections {
		p := &now.Projections[i]
		lag := strconv.FormatInt(p.Lag, 10)
		if p.Lag > 0 {
			lag += fmt.Sprintf(" (%.1f s)", p.LagSeconds)
		}
		replay := "-"
		if r := p.Replay; r != nil {
			replay = string(r.State)
			if r.State == client.ReplayStateRunning {
				replay = fmt.Sprintf("%s of %d", percent(r.Processed, r.Total), r.Total)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%.0f/s\t%d\t%d\t%s\n", p.ID, p.State, p.Position, p.Head, lag, p.Rate, p.Parked, p.Generation, replay)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	told := &errWriter{w: out}
	if len(now.Projections) > 0 && now.Projections[0].FirstPosition > 1 {
		fmt.Fprintf(told, "\nevents 1 to %d are in the archive\n", now.Projections[0].FirstPosition-1)
	}
	for i := range now.Projections {
		printFailures(told, &now.Projections[i], now.Failures[now.Projections[i].ID])
	}
	return told.err
}

// printFailures prints the events that a projection could not apply.
func printFailures(out io.Writer, p *client.Projection, failures []client.Failure) {
	if len(failures) == 0 {
		if p.Error == nil {
			return
		}
		at := ""
		if p.ErrorPosition != nil {
			at = fmt.Sprintf(" at the event at position %d", *p.ErrorPosition)
		}
		fmt.Fprintf(out, "\n%s failed%s: %s\n", p.ID, at, *p.Error)
		return
	}
	fmt.Fprintf(out, "\n%s: %d parked\n", p.ID, len(failures))
	for i := range failures[:min(len(failures), shownFailures)] {
		f := &failures[i]
		reason := "waits for the events before it"
		if f.Error != nil {
			reason = *f.Error
		}
		fmt.Fprintf(out, "  account %s at position %d, %s, tried %d times, %d waiting: %s\n    again: curl -X POST …/projections/%s/failures/%d/retry\n",
			f.AccountID, f.Position, f.Type, f.Attempts, f.Waiting, reason, p.ID, f.Position)
	}
	if more := len(failures) - shownFailures; more > 0 {
		fmt.Fprintf(out, "  and %d more: GET /projections/%s/failures\n", more, p.ID)
	}
}

// percent returns the share of total that is done, never rounded up to 100%.
func percent(done, total int64) string {
	if done >= total {
		return "100%"
	}
	return strconv.FormatInt(int64(float64(done)/float64(total)*100), 10) + "%"
}
