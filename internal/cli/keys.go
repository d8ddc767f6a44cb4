package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"passbook/internal/app"
	"passbook/internal/auth"
	"passbook/internal/config"
	"passbook/internal/localpg"
	"passbook/internal/postgres"
)

func newKeys(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Create, list and revoke the keys of PASSBOOK_AUTH=keys",
		Long: `Keys are what callers send as "Authorization: Bearer KEY" to a server with PASSBOOK_AUTH=keys. Each has scopes, which
say what its holder may do:

  accounts:write      commands: open accounts, move money
  accounts:read       queries
  events:read         the log
  projections:read    the state of the projections
  projections:admin   replay, pause and so on; includes projections:read
  metrics:read        /metrics
  audit:read          the access audit: who read what
  subjects:erase      erase people, which cannot be undone

These commands work on the database itself (DATABASE_URL, or the private PostgreSQL in PASSBOOK_DATA_DIR, whether a
server runs on it or not).`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return noArgs(cmd, args)
			}
			return config.Usage(errors.New("say what to do with keys: create, list or revoke"))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newKeysCreate(settings), newKeysList(settings), newKeysRevoke(settings))
	return cmd
}

func newKeysCreate(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --name NAME --scope SCOPE [--scope SCOPE ...]",
		Short: "Create a key, and print it on the last line",
		Long: `Create creates a key and prints it on the last line of stdout. It cannot be shown again: only its hash is stored.
A running server accepts it at once. An empty database is migrated first.`,
		Example: `  server keys create --name shop --scope accounts:write --scope accounts:read
  export PASSBOOK_KEY=$(server keys create --name ops --scope projections:admin | tail -n 1)`,
		Args: noArgs,
	}
	name := cmd.Flags().String("name", "", "name of the key's holder; no other key in use may have it")
	scopes := cmd.Flags().StringSlice("scope", nil, "what the key allows, any of: "+strings.Join(auth.ScopeNames(), ", "))
	complete(cmd, "scope", auth.ScopeNames()...)
	complete(cmd, "name") // a new one
	asJSON := cmd.Flags().Bool("json", false, `print one JSON object on one line; "key" is the key`)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		allowed, err := parseScopes(*scopes)
		if err == nil && *name == "" {
			err = errors.New("--name: name the key's holder")
		}
		if err != nil {
			return config.Usage(err)
		}
		return createKey(cmd.Context(), cfg, *name, allowed, *asJSON, cmd.OutOrStdout())
	}
	return cmd
}

func parseScopes(names []string) (auth.Scopes, error) {
	var all auth.Scopes
	for _, name := range names {
		scope, ok := auth.ParseScope(name)
		if !ok {
			return 0, fmt.Errorf("--scope: %q is not a scope; there are %s", name, strings.Join(auth.ScopeNames(), ", "))
		}
		all |= scope
	}
	if all == 0 {
		return 0, fmt.Errorf("--scope: name at least one of %s", strings.Join(auth.ScopeNames(), ", "))
	}
	return all, nil
}

func createKey(ctx context.Context, cfg config.Config, name string, scopes auth.Scopes, asJSON bool, out io.Writer) error {
	return withKeys(ctx, cfg, true, func(keys *auth.Store) error {
		key, text, err := keys.Create(ctx, name, scopes)
		switch {
		case errors.Is(err, auth.ErrNameTaken):
			return fmt.Errorf("%w: choose another than %q, or revoke that key first", err, name)
		case errors.Is(err, auth.ErrBadName):
			return config.Usage(fmt.Errorf("--name: %w", err))
		case err != nil:
			return err
		}
		if asJSON {
			return printJSON(out, struct {
				auth.Key
				Text string `json:"key"`
			}{key, text})
		}
		_, err = fmt.Fprintf(out, "key %s of %s, for %s\nIt is shown only this once:\n\n%s\n", key.ID, name, strings.Join(key.Scopes, ", "), text)
		return err
	})
}

func newKeysList(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys, including revoked ones",
		Example: `  server keys list
  server keys list --json | jq -r '.keys[] | select(.revoked_at == null) | .name'`,
		Args: noArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return withKeys(cmd.Context(), cfg, false, func(keys *auth.Store) error {
			all, err := keys.List(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Keys []auth.Key `json:"keys"`
				}{all})
			}
			return printKeys(all, cmd.OutOrStdout())
		})
	}
	return cmd
}

func printKeys(all []auth.Key, out io.Writer) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "There are no keys; create one with server keys create.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSCOPES\tCREATED\tLAST USED\tREVOKED")
	when := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	for i := range all {
		k := &all[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, strings.Join(k.Scopes, ","), when(&k.CreatedAt), when(k.LastUsedAt), when(k.RevokedAt))
	}
	return w.Flush()
}

func newKeysRevoke(settings *config.Settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID|NAME",
		Short: "Revoke a key permanently",
		Long: `Revoke ends a key, named by its id or, if no key in use has that id, by its name. Every running server refuses it
within seconds, and ends the streams that were opened with it.`,
		Example: `  server keys revoke shop`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return config.Usage(errors.New("name one key, by its id or its name; server keys list lists them"))
			}
			return nil
		},
	}
	cmd.ValidArgsFunction = suggestKeys(settings)
	asJSON := cmd.Flags().Bool("json", false, "print the key, one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return withKeys(cmd.Context(), cfg, false, func(keys *auth.Store) error {
			key, err := keys.Revoke(cmd.Context(), args[0])
			if errors.Is(err, auth.ErrUnknownKey) {
				return fmt.Errorf("%w %q; server keys list lists them", err, args[0])
			}
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), &key)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "revoked key %s of %s; servers refuse it within 5 seconds\n", key.ID, key.Name)
			return err
		})
	}
	return cmd
}

// withKeys calls use with the keys of the database. With create it first makes the private PostgreSQL and the schema if
// they are missing.
func withKeys(ctx context.Context, cfg config.Config, create bool, use func(*auth.Store) error) (err error) {
	d, err := app.AttachDatabase(ctx, cfg)
	if create && errors.Is(err, localpg.ErrNoData) {
		d, err = app.OpenDatabase(ctx, cfg)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if create {
		if err := postgres.Migrate(ctx, d.OwnerURL, cfg.Log); err != nil {
			return err
		}
	}
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook keys"), postgres.WithMaxConns(1))
	if err != nil {
		return err
	}
	defer pool.Close()
	err = use(auth.NewStore(pool))
	if errors.Is(err, auth.ErrNoSchema) {
		return fmt.Errorf("%w; start the server on it once, or run server migrate", err)
	}
	return err
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
