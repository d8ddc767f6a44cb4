package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"passbook/internal/app"
	"passbook/internal/archive"
	"passbook/internal/config"
	"passbook/internal/eventstore"
	"passbook/internal/localpg"
	"passbook/internal/merkle"
	"passbook/internal/postgres"
)

// auditFlags are the flags of server audit.
type auditFlags struct {
	keys, checkpoints []string
	dump, parquet     string
	asJSON            bool
}

func newAudit(settings *config.Settings) *cobra.Command {
	var flags auditFlags
	cmd := &cobra.Command{
		Use:   "audit --key KEY [--dump FILE] [--parquet DIR] [--checkpoint FILE ...]",
		Short: "Check with a public key that a copy of the log is the one that was signed",
		Long: `Audit computes the hash of every event and the Merkle tree over them, and compares it with signed checkpoints. It needs a copy
of the log and the public key, and no server: a dump (of server backup or pg_dump), or the database itself (DATABASE_URL, or the
private PostgreSQL in PASSBOOK_DATA_DIR). With --parquet it reads the partitions that were exported to a directory, and only what follows
them from the dump or from a database that is named; without one of these, it compares the checkpoints that the partitions reach. A log whose
first events are in an archive needs --parquet with its directory. It prints the first positions whose events were changed, moved, removed or cut off.

The copy's own checkpoint cannot show that the end of the log was cut off together with it. Give checkpoints that were kept
elsewhere with --checkpoint: the file of PASSBOOK_CHECKPOINT_FILE, or responses of GET /log/checkpoint. docs/audit.md says what an
audit proves.

It exits 0 if the events are those that were signed, and 1 if not or if it could not check.`,
		Example: `  server audit keygen bank.example/passbook signing.key
  server audit --key signing.key.pub --dump passbook.dump --checkpoint checkpoints.txt
  DATABASE_URL=postgres://standby/passbook server audit --key signing.key.pub`,
		Args: noArgs,
	}
	cmd.Flags().StringArrayVar(&flags.keys, "key", nil, "public key, or a file that has it; several if the key was changed")
	cmd.Flags().StringArrayVar(&flags.checkpoints, "checkpoint", nil, "file of signed checkpoints that were kept elsewhere")
	cmd.Flags().StringVar(&flags.dump, "dump", "", "dump of the database to audit")
	cmd.Flags().StringVar(&flags.parquet, "parquet", "", "directory of exported partitions to audit")
	cmd.Flags().BoolVar(&flags.asJSON, "json", false, "print one JSON object")
	complete(cmd, "key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings.Load(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		named := cfg.DatabaseURL != "" || settings.DataDirGiven()
		return audit(cmd.Context(), cfg, &flags, named, cmd.OutOrStdout())
	}
	cmd.AddCommand(newKeygen())
	return cmd
}

func newKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen NAME FILE",
		Short: "Make a key to sign the log with; the public key is on the last line",
		Long: `Keygen makes a pair of Ed25519 keys. It writes the private one to FILE, which only its owner may read and which must not exist,
and the public one to FILE.pub, and prints the public one. NAME names the log in its checkpoints, for as long as it exists, also when
the key changes: a host name and a path, such as bank.example/passbook.`,
		Example: `  server audit keygen bank.example/passbook signing.key
  PASSBOOK_SIGNING_KEY_FILE=signing.key server`,
		Args: exactly(2, "NAME and FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			private, public, err := note.GenerateKey(rand.Reader, args[0])
			if err == nil {
				_, err = merkle.ParseKeys(private)
			}
			if err != nil || strings.TrimSpace(args[0]) != args[0] {
				return config.Usage(fmt.Errorf("%q is not a name; use a host name and a path, without spaces and +", args[0]))
			}
			if err := writeNew(args[1], private+"\n", 0o600); err != nil {
				return err
			}
			if err := writeNew(args[1]+".pub", public+"\n", 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), public)
			return err
		},
	}
}

// writeNew writes a file that does not exist yet.
func writeNew(path, text string, mode os.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // named by who runs the command
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// publicKeys parses keys, or the files that have them.
func publicKeys(values []string) (merkle.Keys, error) {
	if len(values) == 0 {
		return merkle.Keys{}, config.Usage(errors.New("--key: name the public key of the log, or the file that has it"))
	}
	lines := make([]string, len(values))
	for i, value := range values {
		lines[i] = value
		if _, err := note.NewVerifier(value); err != nil {
			text, err := os.ReadFile(value) //nolint:gosec // named by who runs the command
			if err != nil {
				return merkle.Keys{}, config.Usage(fmt.Errorf("--key: %q is neither a public key nor a file that has one", value))
			}
			lines[i] = string(text)
		}
	}
	keys, err := merkle.ParseKeys(strings.Join(lines, "\n"))
	if err != nil {
		return keys, config.Usage(fmt.Errorf("--key: %w", err))
	}
	return keys, nil
}

// readCheckpoints returns the checkpoints of files.
func readCheckpoints(paths []string) (all []merkle.Signed, err error) {
	for _, path := range paths {
		text, err := os.ReadFile(path) //nolint:gosec // named by who runs the command
		if err != nil {
			return nil, config.Usage(fmt.Errorf("--checkpoint: %w", err))
		}
		signed, _ := merkle.SplitCheckpoints(text)
		if len(signed) == 0 {
			return nil, config.Usage(fmt.Errorf("--checkpoint: %s has no signed checkpoint", path))
		}
		for i, one := range signed {
			all = append(all, merkle.Signed{From: fmt.Sprintf("checkpoint %d of %s", i+1, path), Note: one})
		}
	}
	return all, nil
}

// audit audits what the flags name, or the database. named says that the settings name one, which an archive needs not have.
func audit(ctx context.Context, cfg config.Config, flags *auditFlags, named bool, out io.Writer) (err error) {
	keys, err := publicKeys(flags.keys)
	if err != nil {
		return err
	}
	outside, err := readCheckpoints(flags.checkpoints)
	if err != nil {
		return err
	}
	copied, closeCopy, err := sourceOf(ctx, cfg, flags, named)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCopy()) }()
	report, err := merkle.Check(ctx, copied, keys.Open, outside)
	if archived, ok := errors.AsType[*eventstore.ArchivedError](err); ok {
		return fmt.Errorf("audit: positions 1 to %d are not in this copy of the log; they are in the archive: name its directory with --parquet", archived.First-1)
	}
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if flags.asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = printAudit(&report, keys.Name, len(outside) > 0, out)
	}
	if err == nil && !report.OK {
		err = fmt.Errorf("audit: problems: %d", report.Wrong)
	}
	return err
}

// sourceOf returns the copy of the log to audit, which the caller closes.
func sourceOf(ctx context.Context, cfg config.Config, flags *auditFlags, named bool) (_ merkle.Source, closeCopy func() error, err error) {
	nothing := func() error { return nil }
	if flags.parquet != "" {
		exported, err := exportedRows(flags.parquet)
		if err != nil {
			return nil, nil, err
		}
		if flags.dump == "" && !named {
			return merkle.Joined{Beginning: exported}, nothing, nil
		}
		rest := *flags
		rest.parquet = ""
		source, closeCopy, err := sourceOf(ctx, cfg, &rest, named)
		return merkle.Joined{Beginning: exported, Rest: source}, closeCopy, err
	}
	if flags.dump != "" {
		tables, err := localpg.DumpTables(ctx, cfg.PGBin, flags.dump)
		return merkle.Dump{Tables: tables, Open: func(table string) (io.ReadCloser, error) {
			return localpg.ReadDump(ctx, cfg.PGBin, flags.dump, table)
		}}, nothing, err
	}
	d, err := app.AttachDatabase(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	pool, err := postgres.NewPool(ctx, d.OwnerURL, postgres.WithApplicationName("passbook audit"), postgres.WithMaxConns(1))
	if err != nil {
		return nil, nil, errors.Join(err, d.Stop())
	}
	return merkle.Database{Pool: pool}, func() error { pool.Close(); return d.Stop() }, nil
}

// exportedRows returns the events of exported partitions.
func exportedRows(dir string) (merkle.Rows, error) {
	manifests, err := archive.Manifests(dir)
	if err != nil {
		return nil, err
	}
	if len(manifests) == 0 {
		return nil, config.Usage(fmt.Errorf("--parquet: %s has no exported partition", dir))
	}
	return func(yield func(*eventstore.Event, error) bool) {
		for i := range manifests {
			err := archive.Read(filepath.Join(dir, manifests[i].File), func(r archive.Row) error {
				e := eventstore.Event{
					Position: r.Position, StreamID: r.StreamID, Version: r.Version, EventID: r.EventID, Type: r.Type,
					SchemaVersion: int(r.SchemaVersion), Payload: []byte(r.Payload), Metadata: []byte(r.Metadata),
					RecordedAt: time.UnixMicro(r.RecordedAt),
				}
				if !yield(&e, nil) {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}, nil
}

// errEnough ends the reading of a file.
var errEnough = errors.New("enough")

func printAudit(r *merkle.Report, name string, outside bool, out io.Writer) error {
	w := &errWriter{w: out}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-10s %s\n", f.Problem, f.Detail)
	}
	if more := r.Wrong - int64(len(r.Findings)); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	if r.OK {
		fmt.Fprintf(w, "events 1 to %d are those that %s signed; checkpoints compared: %d\n", r.Signed, name, r.Checkpoints)
		if later := r.Events - r.Signed; later > 0 {
			fmt.Fprintf(w, "%d later events are not signed\n", later)
		}
		if r.Later > 0 {
			fmt.Fprintf(w, "%d checkpoints have more events than this copy and were not compared\n", r.Later)
		}
		if !outside {
			fmt.Fprintln(w, "no checkpoint was given with --checkpoint, so events that were cut off at the end together with their checkpoint are not missed")
		}
	}
	return w.err
}
