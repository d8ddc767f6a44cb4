// Command server runs Passbook: the account service, and the commands to look after it. See server --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// Exit codes.
const (
	exitOK       = 0
	exitFailed   = 1
	exitSettings = 2 // the command line or a setting is wrong; nothing was started
)

func main() {
	// What lives long here is small and what a request makes is gone with it: collecting a third as often costs a few
	// dozen MiB. GOGC and GOMEMLIMIT say otherwise when they are set.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
	// Each request and each event has an id. They are no secrets, and reading randomness for each would be a system call.
	uuid.EnableRandPool()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	os.Exit(code)
}

// usageError marks what the caller got wrong on the command line or in a setting.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run is the whole program but for the process around it. A second signal while it shuts down is the caller's to
// handle. Settings are read from environ, NAME=value each.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	root := newRoot(environ)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%v\nRun \"server --help\" for all commands and settings.\n", err)
		return exitSettings
	default:
		fmt.Fprintf(stderr, "server: %v\n", err)
		return exitFailed
	}
}

func newRoot(environ []string) *cobra.Command {
	settings := newSettings(environ)
	serve := func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return serve(cmd.Context(), cfg, cmd.OutOrStdout())
	}
	root := &cobra.Command{
		Use:   "server",
		Short: "Passbook, a CQRS account service on PostgreSQL",
		Long: `Passbook keeps accounts: they are opened and money is moved over REST, every fact is an event in a PostgreSQL
log, and balances are read from projections of that log.

Without a command it serves. Without settings it does so on 127.0.0.1:8080, with a private PostgreSQL of its own.
Each setting is an environment variable and a flag; the flag wins.

To see what it does, run server demo: it touches nothing of yours. Each command has a --help of its own, and
server completion prints completions for a shell.`,
		Example: `  server                         # serve, until Ctrl-C
  server demo                    # walk through all of it
  server status --watch          # how the projections of a running server stand
  server replay balances --follow
  DATABASE_URL=postgres://db/passbook server verify`,
		Args:          noArgs,
		RunE:          serve,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	settings.register(root.PersistentFlags())
	complete(root, settings.auth.flag, authNone, authKeys, authOIDC)
	complete(root, settings.logLevel.flag, "debug", "info", "warn", "error")
	complete(root, settings.logFormat.flag, "text", "json")
	root.Version = version
	root.SetVersionTemplate("passbook {{.Version}}\n")
	root.AddCommand(
		&cobra.Command{Use: "serve", Short: "Serve the API until interrupted (the default)", Args: noArgs, RunE: serve},
		newMigrate(settings),
		newStatus(settings),
		newReplay(settings),
		newVerify(settings),
		newKeys(settings),
		newBackup(settings),
		newRestore(settings),
		newDemo(settings),
		newHealthcheck(settings),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: noArgs,
			Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "passbook", version) },
		},
	)
	return root
}

// complete tells shells the values of a flag.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

func newMigrate(settings *settings) *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "Bring the database to this version's schema, and exit", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return migrate(cmd.Context(), cfg)
		},
	}
}

func newHealthcheck(settings *settings) *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 if the server at PASSBOOK_ADDR is ready, 1 if not", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return healthcheck(cmd.Context(), &cfg)
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
	}
	return nil
}
