package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"passbook/internal/app"
	"passbook/internal/config"
)

func newRelay(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "relay",
		Short: "Publish the log to a NATS JetStream stream, without serving",
		Long: `Relay publishes every event of the log to the JetStream stream PASSBOOK_RELAY_STREAM at PASSBOOK_RELAY_NATS_URL, in order and
once: the sequence of a message is the position of its event. It creates the stream if it does not exist. Any number of relays
may run, also within servers; one publishes, and another takes over when it stops.

A server with PASSBOOK_RELAY_NATS_URL relays by itself. This command does it in a process of its own, for the database of
DATABASE_URL or for the private PostgreSQL of a server that runs on it. It listens on PASSBOOK_ADDR for /livez and
/metrics, which needs the scope metrics:read when PASSBOOK_AUTH is set.`,
		Example: `  server relay --relay-nats-url nats://127.0.0.1:4222 --addr 127.0.0.1:8081`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings.Load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if cfg.RelayURL == "" {
				return config.Usage(errors.New("PASSBOOK_RELAY_NATS_URL (--relay-nats-url): name the NATS servers to publish to"))
			}
			return app.Relay(cmd.Context(), cfg)
		},
	}
}

func newFollow(settings *config.Settings) *cobra.Command {
	return &cobra.Command{
		Use:   "follow URL",
		Short: "Serve a copy of another Passbook, from the stream that it relays to",
		Long: `Follow serves queries, projections, the feed and the console like any server, with a database of its own: the private one in
PASSBOOK_DATA_DIR, or DATABASE_URL as the role that owns the tables. Its log is filled from the JetStream stream
PASSBOOK_RELAY_STREAM on the NATS servers at URL, which a relay publishes. Commands get 421; set PASSBOOK_PRIMARY_URL so that the
response says where to send them.

It is ready once it has what was in the stream when it started. A lost follower is rebuilt by starting it on an empty
database. It halts, and says what to do, when the stream is not the one that it has followed.`,
		Example: `  server follow nats://127.0.0.1:4222 --data-dir /var/lib/passbook-follower --addr 127.0.0.1:8081
  PASSBOOK_PRIMARY_URL=https://bank.example server follow nats://a:4222,nats://b:4222,nats://c:4222`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !config.IsNATS(args[0]) {
				return config.Usage(errors.New("name the NATS servers, such as nats://127.0.0.1:4222"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := settings.Load(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if cfg.RelayURL != "" {
				return config.Usage(errors.New("PASSBOOK_RELAY_NATS_URL (--relay-nats-url): a follower does not relay"))
			}
			cfg.FollowURL = args[0]
			return app.Serve(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
}
