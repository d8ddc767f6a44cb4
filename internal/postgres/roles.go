package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ServiceRole is the group role that holds the privileges of a service that does not own the database. It cannot log in:
// the services' login roles are its members. docs/adr/0012-roles.md says why.
const ServiceRole = "passbook_service"

// tableRights are the service's privileges on each table and view that is not a read model.
var tableRights = []struct{ table, rights string }{
	// Written only by append, which has its owner's privileges. A privilege on the table is one on its partitions.
	{"events", "select"},
	{"log_partitions", "select"},
	{"log_begin", "select"},
	{"idempotency_keys", "select, delete"}, // they expire
	{versionTable, "select"},
	{"api_keys", allRights},
	{"projections", allRights},
	{"projection_replays", allRights},
	{"projection_failures", allRights},
	{"webhooks", allRights},
	{"webhook_deliveries", allRights},
	{"log_tiles", "select, insert, update"},
	{"log_checkpoint", "select, insert, update"},
	{"access_records", "select, insert"}, // deleted only by expire_access, which has its owner's privileges
	{"live_generations", "select"},
	{"parked_streams", "select"},
}

// allRights are the privileges on a read model. A replay deletes the rows of old generations.
const allRights = "select, insert, update, delete"

const (
	selectLog = `SELECT quote_ident(n.nspname), pg_has_role(c.relowner, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('events')`

	// selectWriters returns the roles, except the owner, that may write to the log by a privilege on the table, on a partition or
	// on a column, or may grant that to others, and what they have it on.
	selectWriters = `SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, c.oid::regclass::text
   FROM pg_class c CROSS JOIN LATERAL (
     SELECT (aclexplode(c.relacl)).*
      UNION ALL SELECT (aclexplode(attacl)).* FROM pg_attribute WHERE attrelid = c.oid) AS a
  WHERE c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass('events'))) AND a.grantee <> c.relowner AND (a.privilege_type <> 'SELECT' OR a.is_grantable)`

	// A table with generations is a read model, so that a new one needs only its migration.
	selectReadModels = `SELECT quote_ident(c.relname) FROM pg_class c JOIN pg_class log ON log.oid = to_regclass('events')
WHERE c.relnamespace = log.relnamespace AND c.relowner = log.relowner AND c.relkind IN ('r', 'p') AND NOT c.relname = ANY ($1::text[])
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'generation' AND NOT a.attisdropped)
ORDER BY 1`

	// Privileges are compared one by one, both missing and excessive ones. Some can be granted on a single column. Only
	// the owner may write to the tables that append writes.
	rightsInOrder = `SELECT bool_and(p.prosecdef AND coalesce(p.proconfig::text LIKE '%search_path=%', false) AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
   AND (r.oid IS NULL OR has_function_privilege(r.oid, p.oid, 'EXECUTE') AND NOT EXISTS (
         SELECT FROM unnest($2::text[], $3::text[]) AS g(name, rights)
           CROSS JOIN unnest('{select,insert,update,delete,truncate,references,trigger}'::text[]) AS one
          WHERE to_regclass(g.name) IS NOT NULL
            AND CASE WHEN one IN ('insert', 'update', 'references') AND one <> ALL (string_to_array(g.rights, ', '))
                     THEN has_any_column_privilege(r.oid, to_regclass(g.name), one)
                     ELSE has_table_privilege(r.oid, to_regclass(g.name), one) <> (one = ANY (string_to_array(g.rights, ', '))) END)))
  AND NOT EXISTS (` + selectWriters + `)
FROM pg_proc p LEFT JOIN pg_roles r ON r.rolname = $1
WHERE p.oid IN (to_regproc('append'), to_regproc('extend_log'), to_regproc('expire_access'))`

	roleExists     = `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`
	mayCreateRoles = `SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user`
	mayUseSchema   = `SELECT has_schema_privilege($1, relnamespace, 'USAGE') FROM pg_class WHERE oid = to_regclass('events')`
	lockRights     = `SELECT pg_advisory_xact_lock($1)`
	createRole     = `DO $$ BEGIN CREATE ROLE ` + ServiceRole + ` NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`
	runAsOwner     = `REVOKE EXECUTE ON FUNCTION append, extend_log, expire_access FROM PUBLIC;
ALTER FUNCTION append SECURITY DEFINER SET search_path = pg_catalog, %[1]s, pg_temp;
ALTER FUNCTION extend_log SECURITY DEFINER SET search_path = pg_catalog, %[1]s, pg_temp;
ALTER FUNCTION expire_access SECURITY DEFINER SET search_path = pg_catalog, %[1]s, pg_temp`
	grantFunctions = `GRANT EXECUTE ON FUNCTION append, extend_log, position_at, position_in_archive, whole_after, expire_access TO ` + ServiceRole
)

// grant grants the service role its privileges, if the connection's role owns the log, and revokes all others on the same
// tables. It does nothing if they are right already: so the next migrate repairs a database that was restored without
// privileges, or whose administrator made the role later.
func grant(ctx context.Context, db *sql.DB, log *slog.Logger) (err error) {
	var (
		schema  string
		isOwner bool
	)
	err = db.QueryRowContext(ctx, selectLog).Scan(&schema, &isOwner)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && !isOwner) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the owner of the log: %w", err)
	}
	tables, rights, err := rightsOn(ctx, db)
	if err != nil {
		return err
	}
	var inOrder, haveRole bool
	if err := db.QueryRowContext(ctx, rightsInOrder, ServiceRole, tables, rights).Scan(&inOrder); err != nil {
		return fmt.Errorf("read the rights of the service: %w", err)
	}
	if err := db.QueryRowContext(ctx, roleExists, ServiceRole).Scan(&haveRole); err != nil {
		return fmt.Errorf("look for the role %s: %w", ServiceRole, err)
	}
	if inOrder && haveRole {
		return nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("grant: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := grantIn(ctx, tx, schema, tables, rights, haveRole, log); err != nil {
		return fmt.Errorf("grant the service its rights: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("grant the service its rights: %w", err)
	}
	return nil
}

// rightsOn returns the service's privileges and the tables that they are for.
func rightsOn(ctx context.Context, db *sql.DB) (tables, rights []string, err error) {
	for _, g := range tableRights {
		tables, rights = append(tables, g.table), append(rights, g.rights)
	}
	rows, err := db.QueryContext(ctx, selectReadModels, tables)
	if err != nil {
		return nil, nil, fmt.Errorf("list the read models: %w", err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			return nil, nil, fmt.Errorf("list the read models: %w", err)
		}
		tables, rights = append(tables, table), append(rights, allRights)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("list the read models: %w", err)
	}
	return tables, rights, nil
}

func grantIn(ctx context.Context, tx *sql.Tx, schema string, tables, rights []string, haveRole bool, log *slog.Logger) error {
	// Concurrent instances would update the same rows of the catalog, which PostgreSQL refuses.
	if _, err := tx.ExecContext(ctx, lockRights, migrationLock); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(runAsOwner, schema)); err != nil {
		return err
	}
	if err := revokeWrites(ctx, tx); err != nil {
		return err
	}
	if !haveRole {
		var may bool
		if err := tx.QueryRowContext(ctx, mayCreateRoles).Scan(&may); err != nil {
			return err
		}
		if !may {
			log.InfoContext(ctx, "the service's role does not exist: an administrator can create it with CREATE ROLE; then run migrate again",
				"role", ServiceRole)
			return nil
		}
		if _, err := tx.ExecContext(ctx, createRole); err != nil {
			return err
		}
	}
	var usable bool
	if err := tx.QueryRowContext(ctx, mayUseSchema, ServiceRole).Scan(&usable); err != nil {
		return err
	}
	statements := []string{grantFunctions}
	if !usable {
		statements = append(statements, "GRANT USAGE ON SCHEMA "+schema+" TO "+ServiceRole)
	}
	for i, table := range tables {
		var there bool
		if err := tx.QueryRowContext(ctx, tableExists, table).Scan(&there); err != nil {
			return err
		}
		if there {
			statements = append(statements,
				"REVOKE ALL ON TABLE "+table+" FROM "+ServiceRole,
				"GRANT "+rights[i]+" ON TABLE "+table+" TO "+ServiceRole)
		}
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// revokeWrites revokes from every role but the owner the privileges to change the log.
func revokeWrites(ctx context.Context, tx *sql.Tx) error {
	type writer struct{ role, table string }
	var writers []writer
	rows, err := tx.QueryContext(ctx, selectWriters)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var w writer
		if err := rows.Scan(&w.role, &w.table); err != nil {
			return err
		}
		writers = append(writers, w)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, w := range writers {
		// Revoking on a table revokes on its columns too.
		for _, right := range []string{"INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER", "GRANT OPTION FOR SELECT"} {
			if _, err := tx.ExecContext(ctx, "REVOKE "+right+" ON TABLE "+w.table+" FROM "+w.role+" CASCADE"); err != nil {
				return fmt.Errorf("revoke what %s may do to %s: %w", w.role, w.table, err)
			}
		}
	}
	return nil
}

// Role is the role that a service connects as.
type Role struct {
	Name string
	// Separate reports that the role can only add to the log through its function, and cannot change it.
	Separate bool
}

// A role that may make functions in the log's schema could make append call them as the owner. Before PostgreSQL 16, a role
// that may make roles could become the owner.
const selectRole = `SELECT current_user, NOT (pg_has_role(c.relowner, 'MEMBER') OR has_schema_privilege(c.relnamespace, 'CREATE')
   OR EXISTS (SELECT FROM pg_partition_tree(c.oid) WHERE has_table_privilege(relid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER, REFERENCES')
                                                      OR has_any_column_privilege(relid, 'INSERT, UPDATE, REFERENCES'))
   OR (SELECT rolcreaterole AND current_setting('server_version_num')::int < 160000 FROM pg_roles WHERE rolname = current_user))
FROM pg_class c WHERE c.oid = to_regclass('events')`

// RoleOf returns the role of a pool's connections, and whether the log is safe from it (I9).
func RoleOf(ctx context.Context, pool *pgxpool.Pool) (Role, error) {
	var r Role
	err := pool.QueryRow(ctx, selectRole).Scan(&r.Name, &r.Separate)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, errors.New("there is no log in the database")
	}
	if err != nil {
		return r, fmt.Errorf("read the role of the service: %w", err)
	}
	return r, nil
}
