package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"passbook/client"
	"passbook/internal/config"
)

const (
	// lineEvery is how often progress is printed when the output is not a terminal.
	lineEvery = 2 * time.Second
	// followRetryFor is how long a server may be unavailable, such as for a restart, while its replay is followed.
	followRetryFor = 2 * time.Minute
	// retryFor is how long a command waits for a server that does not respond, for a person.
	retryFor = 2 * time.Second
)

func newReplay(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay PROJECTION",
		Short: "Rebuild a read model from the log while it keeps serving",
		Long: `Replay makes the running server rebuild a read model from the log, next to the one that queries read, and then swap
the two. No read sees a half-built table, and none goes back in time. A server that is killed meanwhile resumes the
replay after its restart.

Replay after fixing a projection's code, after its rows were damaged, or to check that the log produces the same rows.
It is safe at any time. The rows it replaces are kept until the next replay: POST /projections/{id}/rollback restores
them.

Without --follow it returns once the replay has begun. With --follow it shows the progress and returns when the replay is
over: it exits 0 if the replay completed, 1 if it failed or was cancelled. If a replay of the projection is already
running, it follows that one. Ctrl-C stops following, not the replay.`,
		Example: `  server replay balances --follow
  server replay balances --json | jq -r .id
  server status`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return config.Usage(errors.New("name one projection, such as balances; server status lists them"))
			}
			return nil
		},
	}
	server := serverFlag(cmd)
	cmd.ValidArgsFunction = suggestProjections(settings, server)
	follow := cmd.Flags().Bool("follow", false, "show the progress until the replay is over")
	asJSON := cmd.Flags().Bool("json", false, "print JSON: the replay, and with --follow one object a line as it progresses")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		c, url, err := newClient(*server, &cfg, client.WithRetryFor(followRetryFor))
		if err != nil {
			return err
		}
		defer c.Close()
		out := cmd.OutOrStdout()
		var shown progress = &lines{out: out}
		switch {
		case *asJSON:
			shown = &objects{out: out}
		case *follow && isTerminal(out):
			shown = &bar{out: out}
		}
		return explain(cmd.Context(), replay(cmd.Context(), c, url, args[0], *follow, shown), url)
	}
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows the progress of a replay.
type progress interface {
	// show is called when the replay starts, as it progresses, and last when it is over.
	show(r *client.Replay)
	// note prints a line next to the progress.
	note(text string)
}

func replay(ctx context.Context, c *client.Client, server, projection string, follow bool, shown progress) error {
	r, err := c.StartReplay(ctx, projection)
	var refused *client.Problem
	if follow && errors.As(err, &refused) && refused.Code == "replay-running" {
		shown.note("a replay of " + projection + " is already running; following it")
		r, err = c.Replay(ctx, projection, refused.ReplayID)
	}
	if err != nil {
		return err
	}
	shown.show(r)
	if !follow {
		return nil
	}
	err = followReplay(ctx, c, r, shown)
	if ctx.Err() != nil {
		return fmt.Errorf("no longer following the replay, which continues; to cancel it:\n  curl -X DELETE %s/projections/%s/replays/%s",
			server, projection, r.ID)
	}
	return err
}

// followReplay returns when the replay is over, with an error unless it completed.
func followReplay(ctx context.Context, c *client.Client, r *client.Replay, shown progress) error {
	if r.State == client.ReplayStateRunning {
		for next, err := range c.FollowReplay(ctx, r.Projection, r.ID) {
			if err != nil {
				return err
			}
			*r = next
			shown.show(r)
		}
	}
	if r.State == client.ReplayStateCompleted {
		return nil
	}
	reason := ""
	if r.Error != nil {
		reason = ": " + *r.Error
	}
	return fmt.Errorf("the replay of %s is %s%s", r.Projection, r.State, reason)
}

// objects prints each state of the replay on a line.
type objects struct{ out io.Writer }

func (o *objects) show(r *client.Replay) {
	_ = json.NewEncoder(o.out).Encode(r) // a write error must not stop following
}

func (o *objects) note(string) {}

// lines prints a line every few seconds.
type lines struct {
	out   io.Writer
	begun bool
	last  time.Time
}

func (l *lines) note(text string) { fmt.Fprintln(l.out, text) }

func (l *lines) show(r *client.Replay) {
	switch {
	case !l.begun:
		l.begun = true
		fmt.Fprintf(l.out, "replay %s of %s: %d events\n", r.ID, r.Projection, r.Total)
	case r.State != client.ReplayStateRunning:
		fmt.Fprintf(l.out, "%s: %d of %d events, %.0f/s\n", r.State, r.Processed, r.Total, r.Rate)
	case r.Processed > 0 && time.Since(l.last) >= lineEvery:
		left := ""
		if r.EtaSeconds != nil && *r.EtaSeconds > 0 {
			left = ", " + (time.Duration(*r.EtaSeconds) * time.Second).String() + " left"
		}
		fmt.Fprintf(l.out, "%s of %d events, %.0f/s%s\n", percent(r.Processed, r.Total), r.Total, r.Rate, left)
		l.last = time.Now()
	}
}

// bar is a progress bar on a terminal.
type bar struct {
	out io.Writer
	bar *progressbar.ProgressBar
}

func (b *bar) note(text string) { fmt.Fprintln(b.out, text) }

func (b *bar) show(r *client.Replay) {
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(max(r.Total, 1),
			progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(r.Projection),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("events"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(0),
			progressbar.OptionSetElapsedTime(true))
	}
	// The bar is only for show: a terminal error must not stop following.
	if r.State == client.ReplayStateRunning {
		_ = b.bar.Set64(min(r.Processed, max(r.Total, 1)-1)) // the swap comes last
		return
	}
	if r.State == client.ReplayStateCompleted {
		_ = b.bar.Finish()
	} else {
		_ = b.bar.Exit()
	}
	fmt.Fprintf(b.out, "\n%s: %d of %d events, %.0f/s\n", r.State, r.Processed, r.Total, r.Rate)
}
