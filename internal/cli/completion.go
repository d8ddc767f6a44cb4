package cli

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"passbook/client"
	"passbook/internal/auth"
	"passbook/internal/config"
	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

// completionTimeout bounds how long a shell waits for suggestions.
const completionTimeout = 2 * time.Second

// complete registers the values of a flag for shells.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag does not exist
	}
}

// suggest completes the only argument of a command with what list returns, or with nothing if it fails: there is nowhere
// to show the error.
func suggest(settings *config.Settings, list func(context.Context, *config.Config) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cfg, err := settings.Load(io.Discard)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		values, err := list(ctx, &cfg)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}

// suggestProjections completes ids of projections, which it asks the server for.
func suggestProjections(settings *config.Settings, server *string) cobra.CompletionFunc {
	return suggest(settings, func(ctx context.Context, cfg *config.Config) ([]string, error) {
		c, _, err := newClient(*server, cfg, client.WithRetryFor(0))
		if err != nil {
			return nil, err
		}
		defer c.Close()
		projections, err := c.Projections(ctx)
		ids := make([]string, len(projections))
		for i := range projections {
			ids[i] = projections[i].ID
		}
		return ids, err
	})
}

// suggestKeys completes names of keys in use, which it reads from the database. It starts no private PostgreSQL.
func suggestKeys(settings *config.Settings) cobra.CompletionFunc {
	return suggest(settings, func(ctx context.Context, cfg *config.Config) ([]string, error) {
		url := cmp.Or(cfg.DirectDatabaseURL, cfg.DatabaseURL)
		if url == "" {
			var err error
			if url, err = localpg.Attach(ctx, cfg.DataDir); err != nil {
				return nil, err
			}
		}
		pool, err := postgres.NewPool(ctx, url, postgres.WithApplicationName("passbook completion"), postgres.WithMaxConns(1))
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		keys, err := auth.NewStore(pool).List(ctx)
		var names []string
		for i := range keys {
			if keys[i].RevokedAt == nil {
				names = append(names, keys[i].Name)
			}
		}
		return names, err
	})
}
