package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"passbook/internal/cli/demo"
	"passbook/internal/config"
)

// readingPause is how long the demonstration stops before each step on a terminal.
const readingPause = 700 * time.Millisecond

func newDemo(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Demonstrate what Passbook does, on a separate server and database",
		Long: `Demo starts this binary as a server with a private PostgreSQL in a temporary directory, and walks through it over
HTTP: open, deposit, read your write, the same command twice, a refusal, a transfer, time travel, an event that cannot be
applied and its repair, a replay under readers, a kill -9, and a final verification.

Each step shows its request as a line to paste into a shell, the response, and what was expected of it. Nothing of yours is
touched: DATABASE_URL and PASSBOOK_DATA_DIR are not used, and the directory is removed at the end.

It exits 0 only if every expectation was met.

With --seed it is a playground instead: it writes half a year of a small bank in several currencies into an empty private
PostgreSQL (about 5,000 events, the same for the same number and day), and serves it until Ctrl-C. Its data is in
PASSBOOK_DATA_DIR if you name one, and otherwise next to the usual one; it refuses a database that is not empty.`,
		Example: `  server demo
  server demo --fast
  server demo --json | jq -r 'select(.ok | not)'
  server demo --keep      # leaves the database, and says how to look around in it
  server demo --seed      # a playground with months of history, for the console and the command line`,
		Args: noArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON, one object a step")
	fast := cmd.Flags().Bool("fast", false, "do not pause between the steps (the default without a terminal)")
	keep := cmd.Flags().Bool("keep", false, "keep the database afterwards")
	deposits := cmd.Flags().Int("deposits", 30_000, "how many deposits to write before the replays")
	seed := cmd.Flags().Uint64("seed", 0, "serve a playground with a history made up from this number")
	cmd.Flags().Lookup("seed").NoOptDefVal = "1"
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("seed") {
			cfg, err := privateOnly(settings, cmd)
			if err != nil {
				return err
			}
			return servePlayground(cmd.Context(), settings, cfg, *seed, cmd.OutOrStdout())
		}
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if *deposits < 0 {
			return config.Usage(errors.New("--deposits: at least 0"))
		}
		// A reader that closes the output must cause a write error, and not end the process before the directory is removed.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("demo: locate this program: %w", err)
		}
		out := cmd.OutOrStdout()
		walk := demo.Config{
			Binary: binary, PgBin: cfg.PGBin, Out: out, JSON: *asJSON, Deposits: *deposits, Keep: *keep,
			Colour: isTerminal(out) && settings.Getenv("NO_COLOR") == "",
		}
		if isTerminal(out) && !*fast && !*asJSON {
			walk.Pause = readingPause
		}
		return demo.Run(cmd.Context(), walk)
	}
	return cmd
}
