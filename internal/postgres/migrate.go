package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"passbook/migrations"
)

const (
	// versionTable has one row per migration. Its name is Passbook's own, since all programs that use goose share goose's.
	versionTable = "passbook_db_version"
	// migrationLock is the key of the advisory lock that lets one instance at a time migrate: "passbook" in ASCII.
	migrationLock int64 = 0x70617373626f6f6b
	// lockTries is how many seconds an instance waits for another's migration.
	lockTries = 600

	tableExists   = `SELECT to_regclass($1) IS NOT NULL`
	selectVersion = `SELECT coalesce(max(version_id), 0) FROM ` + versionTable + ` WHERE is_applied`
	// Passbook uses only one schema, the first of the search path. The role may have none.
	selectPlace = `SELECT coalesce(current_schema(), ''),
	EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1),
	EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'events'),
	coalesce((SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass($1)), '')`
	// The owner of the table of versions owns the schema; before the first migration, any role that may create tables does.
	mayMigrate = `SELECT current_user, coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass($1)),
	has_schema_privilege(current_schema(), 'CREATE'), false)`
)

// ErrOlderDatabase means that the database lacks migrations, and that the connection's role cannot run them. The error
// itself is an *OlderDatabaseError.
var ErrOlderDatabase = errors.New("the database is older than this binary")

// OlderDatabaseError has the version of the database, the version that the binary needs, and the role that cannot migrate.
// It matches ErrOlderDatabase.
type OlderDatabaseError struct {
	// Database is the database's version, 0 before the first migration; Binary is the version that this binary needs.
	Database, Binary int64
	Role             string
}

func (e *OlderDatabaseError) Error() string {
	return fmt.Sprintf("database is at version %d, this binary needs %d, and the role %s does not own the schema: "+
		"run server migrate with the owner's DATABASE_URL", e.Database, e.Binary, e.Role)
}

// Is makes the error match ErrOlderDatabase.
func (e *OlderDatabaseError) Is(target error) bool { return target == ErrOlderDatabase }

// ErrNewerDatabase means that a newer binary has migrated the database. The error itself is a *NewerDatabaseError.
var ErrNewerDatabase = errors.New("the database is newer than this binary")

// NewerDatabaseError has the version of the database and the newest one that the binary knows. It matches ErrNewerDatabase.
type NewerDatabaseError struct {
	// Database is the database's version; Binary is the newest version that this binary has a migration for.
	Database, Binary int64
}

func (e *NewerDatabaseError) Error() string {
	return fmt.Sprintf("database is at version %d, this binary knows up to %d: run a newer passbook", e.Database, e.Binary)
}

// Is makes the error match ErrNewerDatabase.
func (e *NewerDatabaseError) Is(target error) bool { return target == ErrNewerDatabase }

// Migrate brings the schema of the database at url to this binary's newest version, one transaction per version, or per statement of
// one that would lock the log for long. Several
// instances may call it concurrently: one migrates and the others wait. It changes nothing and fails with ErrNewerDatabase if the
// database is newer than the binary, with a *SchemaError if the schema has the newest version but differs from what the
// migrations make, and with a *SessionError if a migration would have to run through a connection pooler, which cannot
// hold the lock.
//
// Then it grants the service role its privileges. A role that does not own the schema changes nothing: Migrate returns nil
// if the schema is the newest, and otherwise ErrOlderDatabase.
func Migrate(ctx context.Context, url string, log *slog.Logger) error {
	return migrate(ctx, url, migrations.FS, log, func(db *sql.DB) error { return checkSchema(db.QueryRowContext(ctx, readSchema)) })
}

func migrate(ctx context.Context, url string, files fs.FS, log *slog.Logger, check func(*sql.DB) error) (err error) {
	config, err := parse(url, defaultApplicationName+"-migrate")
	if err != nil {
		return err
	}
	setDefaults(config)
	db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionBeforeConnect(config.BeforeConnect))
	defer func() { err = errors.Join(err, db.Close()) }()

	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, lockTries))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithSlog(log), goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	sources := provider.ListSources()
	known := sources[len(sources)-1].Version

	current, err := schemaVersion(ctx, db, known)
	if err != nil {
		return err
	}
	if current < known {
		if err := mustOwn(ctx, db, current, known); err != nil {
			return err
		}
		if err := mustBeDirect(ctx, db); err != nil {
			return err
		}
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		// While this instance waited for the lock, a newer one may have migrated further.
		if _, err := schemaVersion(ctx, db, known); err != nil {
			return err
		}
	}
	if err := check(db); err != nil {
		return err
	}
	return grant(ctx, db, log)
}

// mustBeDirect refuses to migrate through a pooler, where each transaction may get another session, without the lock.
func mustBeDirect(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("look for a pooler: %w", err)
	}
	defer func() { _ = conn.Close() }()
	return conn.Raw(func(driver any) error {
		pooled, err := Pooled(ctx, driver.(*stdlib.Conn).Conn())
		if err == nil && pooled {
			err = &SessionError{"the database cannot be migrated through a connection pooler: " +
				"set PASSBOOK_DIRECT_DATABASE_URL to the address of PostgreSQL itself"}
		}
		return err
	})
}

func mustOwn(ctx context.Context, db *sql.DB, current, known int64) error {
	var (
		role string
		may  bool
	)
	if err := db.QueryRowContext(ctx, mayMigrate, versionTable).Scan(&role, &may); err != nil {
		return fmt.Errorf("read the owner of the schema: %w", err)
	}
	if !may {
		return &OlderDatabaseError{Database: current, Binary: known, Role: role}
	}
	return nil
}

// schemaVersion returns the version of the database, 0 before the first migration. It fails if the version is beyond known,
// and if the schema belongs to another program or is not the one that Passbook was in.
func schemaVersion(ctx context.Context, db *sql.DB, known int64) (int64, error) {
	var (
		schema, elsewhere string
		exists, occupied  bool
	)
	if err := db.QueryRowContext(ctx, selectPlace, versionTable).Scan(&schema, &exists, &occupied, &elsewhere); err != nil {
		return 0, fmt.Errorf("read the version of the database: %w", err)
	}
	switch {
	case exists:
	case elsewhere != "":
		return 0, fmt.Errorf("Passbook is in the schema %s, which is not the first of the search path any more (%s): "+
			"set search_path in DATABASE_URL, or on the role", elsewhere, schema)
	case occupied:
		return 0, fmt.Errorf("the schema %s has a table events, and no %s: it is another program's, or was made by a Passbook "+
			"from before the first release, which cannot be upgraded; use an empty database", schema, versionTable)
	default:
		return 0, nil
	}
	var version int64
	err := db.QueryRowContext(ctx, selectVersion).Scan(&version)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "42501" { // insufficient_privilege
		return 0, nil // the owner is migrating, and has not granted the service its privileges yet
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the database: %w", err)
	}
	if version > known {
		return version, &NewerDatabaseError{Database: version, Binary: known}
	}
	return version, nil
}
