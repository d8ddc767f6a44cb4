package postgres

import (
	"context"
	"database/sql"
	"io/fs"
	"log/slog"
)

// Parts of the package that its tests use.
const ReadSchema = readSchema

var CompareSchema = compareSchema

// MigrateFiles is Migrate with other migrations and without a check of the schema.
func MigrateFiles(ctx context.Context, url string, files fs.FS, log *slog.Logger) error {
	return migrate(ctx, url, files, log, func(*sql.DB) error { return nil })
}
