// Package cli is the commands of the binary.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"passbook/internal/app"
	"passbook/internal/config"
	"passbook/internal/postgres"
)

// New returns the binary's command with its subcommands; without a subcommand it serves. Running it fails with a
// config.UsageError when the command line or a setting is wrong.
func New(settings *config.Settings, version string) *cobra.Command {
	serve := func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return app.Serve(cmd.Context(), cfg, cmd.OutOrStdout())
	}
	root := &cobra.Command{
		Use:   "server",
		Short: "Passbook, a CQRS account service on PostgreSQL",
		Long: `Passbook keeps accounts: they are opened and money is moved over REST, every fact is an event in a PostgreSQL
log, and balances are read from projections of that log.

Without a command it serves. Without settings it does so on 127.0.0.1:8080, with its own private PostgreSQL.
Each setting is an environment variable and a flag; the flag wins.

To see what it does, run server demo: it touches nothing of yours. Each command has its own --help, and
server completion prints completions for a shell.`,
		Example: `  server                         # serve, until Ctrl-C
  server demo                    # walk through all of it
  server status --watch          # the state of a running server's projections
  server replay balances --follow
  DATABASE_URL=postgres://db/passbook server verify`,
		Args:          noArgs,
		RunE:          serve,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && isNumber(unknown.GetSpecifiedShortnames()) {
			err = fmt.Errorf("amounts and positions are positive, and -%s is not", unknown.GetSpecifiedShortnames())
		}
		return config.Usage(err)
	})
	settings.Register(root.PersistentFlags())
	for flag, values := range settings.Completions() {
		complete(root, flag, values...)
	}
	root.Version = version
	root.SetVersionTemplate("passbook {{.Version}}\n")
	addCommands(root, settings, serve, version)
	focusHelp(root, settings)
	return root
}

// isNumber reports whether a text, which a sign has made a flag, begins as a number does.
func isNumber(text string) bool {
	return text != "" && strings.ContainsRune("0123456789.", rune(text[0]))
}

func addCommands(root *cobra.Command, settings *config.Settings, serve func(*cobra.Command, []string) error, version string) {
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "Serve:"},
		&cobra.Group{ID: groupBooks, Title: "Accounts and money, at a running server:"},
		&cobra.Group{ID: groupAdmin, Title: "Operate:"},
	)
	root.AddCommand(grouped(groupServe,
		&cobra.Command{Use: "serve", Short: "Serve the API until interrupted (the default)", Args: noArgs, RunE: serve},
		newFollow(settings),
		reading(readsRelay, newRelay(settings))[0],
		reading(readsDemo, newDemo(settings))[0],
	)...)
	root.AddCommand(grouped(groupBooks, reading(readsClient,
		newAccounts(settings), newDeposit(settings), newWithdraw(settings), newTransfer(settings),
		newStatement(settings), newTransactions(settings), newTail(settings),
		newHolds(settings), newHold(settings), newCapture(settings), newRelease(settings), newReverse(settings), newChange(settings),
	)...)...)
	root.AddCommand(grouped(groupAdmin, reading(readsClient,
		newStatus(settings), newReplay(settings), newWebhooks(settings), newSubjects(settings), newAccess(settings), newHealthcheck(settings))...)...)
	root.AddCommand(grouped(groupAdmin, reading(readsDatabase,
		newVerify(settings), newAudit(settings), newKeys(settings), newBackup(settings), newRestore(settings), newArchive(settings), newMigrate(settings))...)...)
	root.AddCommand(reading(readsNone, &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		Run: func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "passbook", version) },
	})...)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			reading(readsNone, cmd)
		}
	}
}

func newMigrate(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "Bring the database to this version's schema, and exit", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.Load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return migrate(cmd.Context(), cfg)
		},
	}
}

func newHealthcheck(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Exit 0 if the server at PASSBOOK_ADDR is ready, 1 if not", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.Load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return healthcheck(cmd.Context(), &cfg)
		},
	}
}

func migrate(ctx context.Context, cfg config.Config) (err error) {
	d, err := app.OpenDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	return postgres.Migrate(ctx, d.OwnerURL, cfg.Log)
}

// healthcheck asks the server at PASSBOOK_ADDR whether it is ready, for a container runtime. It fails if it is not.
func healthcheck(ctx context.Context, cfg *config.Config) error {
	base, c, err := ownServer(cfg)
	if err != nil {
		return err
	}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10))
		return fmt.Errorf("not ready: %s", reason)
	}
	return nil
}
